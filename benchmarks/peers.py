"""Which of the libraries we measure against can be imported here: `python benchmarks/peers.py`."""

from __future__ import annotations

from mezzotint.bench.peers import METRIC_PEERS, PEERS, RESTORE_PEERS, TRAIN_PEERS, find_peer


def main() -> None:
    for name in (*PEERS, *METRIC_PEERS, *TRAIN_PEERS, *RESTORE_PEERS):
        peer = find_peer(name)
        print(f"{name:<28} {peer.version or '-':<14} {peer.reason or 'ok'}")


if __name__ == "__main__":
    main()
