"""The report's style sheet: calm, light and dark by the reader's setting, nothing loaded."""

STYLE = """
:root{color-scheme:light dark;--paper:#faf9f6;--card:#fff;--ink:#23211e;--quiet:#77726a;--rule:#e6e2da;
--accent:#2f5d62;--faint:#9fbcbd}
@media (prefers-color-scheme:dark){:root{--paper:#161615;--card:#1e1e1c;--ink:#e8e5df;--quiet:#968f84;
--rule:#33312d;--accent:#7fb8b5;--faint:#3f6564}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:40px 24px 80px}
h1{font:600 28px/1.2 Georgia,"Times New Roman",serif;margin:0}
h2{font:600 18px/1.3 Georgia,"Times New Roman",serif;margin:44px 0 14px}
h1+p,.quiet{color:var(--quiet);margin:6px 0 0}
section.run+section.run{margin-top:72px;border-top:1px solid var(--rule);padding-top:40px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;margin:24px 0 0;padding:0}
.tiles div{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.tiles dt{color:var(--quiet);font-size:13px}.tiles dd{margin:2px 0 0;font-size:20px}
.bar{height:4px;background:var(--rule);border-radius:2px;margin-top:18px;overflow:hidden}
.bar i{display:block;height:100%;background:var(--accent)}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:16px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px 8px;min-width:0}
figure.wide{grid-column:1/-1}
figcaption{display:flex;justify-content:space-between;gap:12px;font-size:14px;margin-bottom:4px;overflow-wrap:anywhere}
figcaption span{color:var(--quiet)}
svg.curve{display:block;width:100%;height:auto}
svg .rule{stroke:var(--rule);stroke-width:1}
svg .tick{fill:var(--quiet);font-size:11px}
svg polyline{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke:var(--accent)}
svg polyline.raw{stroke:var(--faint);stroke-width:1}
svg .dot{fill:var(--accent)}
img{display:block;max-width:100%;height:auto;border-radius:4px;margin:0 auto}
.latest img{width:auto;min-width:min(100%,420px);image-rendering:pixelated}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;margin-top:16px}
.strip img{width:100%}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:6px 14px;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:anywhere}
tr:last-child td,tr:last-child th{border-bottom:0}
th{font-weight:500;color:var(--quiet)}td.n{text-align:right}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:16px;align-items:start}
@media print{body{background:#fff}main{padding:0}figure,tr{break-inside:avoid}}
"""
