from __future__ import annotations

import os

import pytest

from mezzotint.io import atomic
from mezzotint.io.atomic import atomic_file, atomic_folder, clear_temporary, write_text


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with atomic_file(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old" and temporary.suffix == ".txt" and temporary.parent == tmp_path
        temporary.write_text("new")
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_trace(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(exchange, tmp_path, monkeypatch):
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    target = tmp_path / "run"
    for names in (["a", "b"], ["c"]):
        with atomic_folder(target) as temporary:
            for name in names:
                (temporary / name).write_text(name)
            (temporary / "deep").mkdir()
        assert sorted(os.listdir(target)) == [*names, "deep"] and os.listdir(tmp_path) == ["run"]
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "d").write_text("half")
        raise RuntimeError
    assert sorted(os.listdir(target)) == ["c", "deep"] and os.listdir(tmp_path) == ["run"]


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders cannot be flushed here")
def test_everything_is_flushed_before_the_rename_and_the_parent_after_it(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename

    def told(handle):
        events.append(os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), tmp_path))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", told)
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), rename(a, b)))
    with atomic_folder(tmp_path / "run") as temporary:
        name = temporary.name
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("x")
    before = events[: events.index("rename")]
    assert set(before) == {name, f"{name}/deep", f"{name}/deep/a"}
    assert events[events.index("rename") :] == ["rename", "."]


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path):
    folder, file = atomic_folder(tmp_path / "run"), atomic_file(tmp_path / "a.txt")
    (folder.__enter__() / "x").write_text("half")
    file.__enter__().write_text("half")
    for name in (".hidden", "plain"):
        (tmp_path / name).write_text("keep")
    assert len(os.listdir(tmp_path)) == 4
    clear_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "plain"]


def test_files_get_the_permissions_of_the_users_umask_whatever_the_writer_gives(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_file(tmp_path / "a") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT, 0o600))
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode
