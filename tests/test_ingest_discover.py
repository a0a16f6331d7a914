"""Which files are found, and why the others are not."""

import os
import sys
from pathlib import Path

import pytest

from ingest.discover import FoundFile, SkippedFile, SkipReason, discover
from ingest.errors import UsageError


def is_text(name: str) -> bool:
    return name.lower().endswith((".md", ".txt"))


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("words")


def found(root: Path) -> list[str]:
    return [entry.relative for entry in discover(root, is_text) if isinstance(entry, FoundFile)]


def skipped(root: Path) -> dict[str, SkipReason]:
    entries = discover(root, is_text)
    return {entry.relative: entry.reason for entry in entries if isinstance(entry, SkippedFile)}


def test_files_come_in_the_order_of_their_names_at_every_level(tmp_path):
    """The order is that of the names, whatever order the folder was filled in."""
    write(tmp_path, "z.md", "b/y.md", "a.md", "b/c/x.txt", "b/A.md")

    assert found(tmp_path) == ["a.md", "b/A.md", "b/c/x.txt", "b/y.md", "z.md"]


def test_a_found_file_carries_its_path_size_and_time(tmp_path):
    """What the sync compares with the store comes with the file."""
    write(tmp_path, "sub/a.md")
    status = (tmp_path / "sub/a.md").stat()

    expected = FoundFile(tmp_path / "sub/a.md", "sub/a.md", 5, status.st_mtime_ns)
    assert [expected] == list(discover(tmp_path, is_text))


def test_names_that_are_never_read_are_skipped_with_their_reason(tmp_path):
    """Hidden, secret, tool-made and unsupported names each say why."""
    write(
        tmp_path,
        ".git/config.md",
        ".hidden.md",
        "node_modules/p/readme.md",
        "store/store.sqlite3",
        "store/notes.md",
        ".env.md",
        "prod.env",
        "server.pem",
        "keys/ID_RSA.txt",
        "photo.jpg",
        "ok.md",
    )

    expected = {
        ".git/": SkipReason.HIDDEN,
        ".hidden.md": SkipReason.HIDDEN,
        "node_modules/": SkipReason.TOOL_FOLDER,
        "store/": SkipReason.TOOL_FOLDER,
        ".env.md": SkipReason.SECRET,
        "prod.env": SkipReason.SECRET,
        "server.pem": SkipReason.SECRET,
        "keys/ID_RSA.txt": SkipReason.SECRET,
        "photo.jpg": SkipReason.UNSUPPORTED,
    }
    assert expected == skipped(tmp_path)
    assert found(tmp_path) == ["ok.md"]


def test_ignore_files_count_from_their_folder_down(tmp_path):
    """A deeper rule wins over a higher one, and a rule is relative to its own folder."""
    write(tmp_path, "a.txt", "keep.txt", "sub/a.txt", "sub/b.md", "sub/deep/b.md", "b.md")
    (tmp_path / ".gitignore").write_text("*.txt\n!keep.txt\n")
    (tmp_path / "sub/.gitignore").write_text("!a.txt\n/b.md\n")

    assert found(tmp_path) == ["b.md", "keep.txt", "sub/a.txt", "sub/deep/b.md"]


def test_ragignore_wins_over_gitignore_beside_it(tmp_path):
    """What git leaves out may still be worth reading, and the other way round."""
    write(tmp_path, "build/manual.md", "draft.md", "b.md")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / ".ragignore").write_bytes(b"\xef\xbb\xbf!build/\r\ndraft.md\r\n")

    assert found(tmp_path) == ["b.md", "build/manual.md"]
    assert skipped(tmp_path)["draft.md"] == SkipReason.IGNORED


def test_an_ignored_folder_is_not_entered(tmp_path):
    """One entry stands for the folder, and nothing below it can be taken back in."""
    write(tmp_path, "out/a.md", "out/deep/b.md")
    (tmp_path / ".gitignore").write_text("out/\n!out/a.md\n")

    entries = [entry for entry in discover(tmp_path, is_text) if entry.relative != ".gitignore"]
    assert [SkippedFile("out/", SkipReason.IGNORED)] == entries


def test_a_line_that_is_no_pattern_does_not_void_the_others(tmp_path):
    """Like git, a bad line is passed over."""
    write(tmp_path, "a.md", "b.md")
    (tmp_path / ".gitignore").write_text("!\n\\\na.md\n")

    assert found(tmp_path) == ["b.md"]


def test_an_ignore_file_that_is_a_pipe_is_not_opened(tmp_path):
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / ".gitignore")
    write(tmp_path, "a.md")

    assert found(tmp_path) == ["a.md"]


def test_links_are_followed_to_files_inside_the_root_only(tmp_path):
    """Links out of the root, to folders, to nothing, in circles and to secrets are not followed."""
    root = tmp_path / "root"
    write(tmp_path, "outside.md", "root/real.md", "root/folder/a.md", "root/server.pem")
    targets = {
        "inside.md": "real.md",
        "out.md": "../outside.md",
        "zero.md": "/dev/zero",
        "folder-link.md": "folder",
        "nothing.md": "missing.md",
        "loop.md": "loop.md",
        "secret.md": "server.pem",
        "folder/up": "..",
    }
    for name, target in targets.items():
        (root / name).symlink_to(target)

    assert found(root) == ["folder/a.md", "inside.md", "real.md"]
    expected = {
        "out.md": SkipReason.LINK_OUT,
        "zero.md": SkipReason.LINK_OUT,
        "folder-link.md": SkipReason.LINK_FOLDER,
        "nothing.md": SkipReason.LINK_BROKEN,
        "loop.md": SkipReason.LINK_BROKEN,
        "secret.md": SkipReason.SECRET,
        "server.pem": SkipReason.SECRET,
        "folder/up": SkipReason.LINK_FOLDER,
    }
    assert expected == skipped(root)


def test_a_root_that_is_a_link_is_walked(tmp_path):
    """The user named it, so it is followed; its files are inside it."""
    write(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to("real")

    assert found(tmp_path / "link") == ["a.md"]


def test_pipes_and_sockets_are_not_regular_files(tmp_path):
    """They are told by their metadata, without being opened."""
    os.mkfifo(tmp_path / "pipe.md")

    assert skipped(tmp_path) == {"pipe.md": SkipReason.SPECIAL}


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are always UTF-8 there")
def test_a_name_that_is_not_utf8_is_skipped_in_printable_form(tmp_path):
    """Such a name can be printed and stored; its bytes are shown."""
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("words")
    (tmp_path / os.fsdecode(b"d\xff")).mkdir()

    expected = {"caf\\xe9.md": SkipReason.NAME, "d\\xff/": SkipReason.NAME}
    assert expected == skipped(tmp_path)
    assert "".join(expected) == "".join(expected).encode().decode()


def test_a_name_with_a_newline_or_an_escape_is_data(tmp_path):
    """Strange but valid names are found as they are; whoever prints them escapes them."""
    write(tmp_path, "two\nlines.md", "red\x1b[31m.md")

    assert found(tmp_path) == ["red\x1b[31m.md", "two\nlines.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_reported(tmp_path):
    """The rest is still found."""
    write(tmp_path, "closed/a.md", "open/b.md")
    (tmp_path / "closed").chmod(0)
    try:
        assert skipped(tmp_path) == {"closed/": SkipReason.UNREADABLE}
        assert found(tmp_path) == ["open/b.md"]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_deep_folders_do_not_exhaust_the_stack(tmp_path):
    """More levels than Python's recursion limit would allow, as far as paths may go."""
    write(tmp_path, "top.md")
    folder, depth = tmp_path, 0
    while len(str(folder)) < 3_900:
        folder, depth = folder / "d", depth + 1
        folder.mkdir()
    write(folder, "a.md")
    try:
        assert ["d/" * depth + "a.md", "top.md"] == found(tmp_path)
        assert depth > sys.getrecursionlimit()
    finally:  # pytest's own clean-up is recursive
        (folder / "a.md").unlink()
        os.removedirs(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.md", "a.md"),
        (".hidden.md", ".hidden.md"),
        ("photo.jpg", SkipReason.UNSUPPORTED),
        ("x.pem", SkipReason.SECRET),
    ],
)
def test_a_file_named_directly(tmp_path, name, expected):
    """Its name counts, save that hidden files may be asked for."""
    write(tmp_path, name)
    (tmp_path / ".gitignore").write_text("*\n")

    (entry,) = discover(tmp_path / name, is_text)
    assert expected == (entry.relative if isinstance(entry, FoundFile) else entry.reason)


def test_a_device_named_directly_is_not_opened():
    """Not even when the user points at it."""
    assert [SkippedFile("zero", SkipReason.SPECIAL)] == list(discover(Path("/dev/zero"), is_text))


def test_a_missing_path_is_the_users_error(tmp_path):
    """It is raised at once, not when the first file is asked for."""
    with pytest.raises(UsageError, match="no such file or folder"):
        discover(tmp_path / "missing", is_text)
