"""Files of a record: which path or URL becomes what, and what an object store's refusals become."""

import importlib
import sys
from pathlib import Path

import pytest

from scaling import fitted, record
from scaling.errors import InputError
from scaling.record import files


@pytest.mark.parametrize("given", ["a/b", Path("a/b"), "file:///tmp/a b", "local:///tmp/a b"])
def test_a_local_path_stays_one(given):
    path = files.folder(given)
    assert isinstance(path, Path) and str(path) in ("a/b", "/tmp/a b")


def test_a_url_prints_without_doubled_slashes_and_caches_no_listing():
    path = files.folder("memory://bucket//runs/a/")
    assert (str(path), path.name) == ("memory://bucket/runs/a", "a")
    assert not path.fs.dircache.use_listings_cache
    assert files.folder(path) is path


def test_options_of_a_given_upath_are_kept():
    from upath import UPath

    path = files.folder(UPath("memory://bucket/a", asynchronous=False))
    assert dict(path.storage_options) == {"asynchronous": False, "use_listings_cache": False}


def test_unknown_protocol_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^path = 'nosuch://a/b': .*'nosuch'$"):
        record.create("nosuch://a/b", {}, None, {})


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("s3://b/a", "upath", "universal-pathlib"),
        ("s3://b/a", "s3fs", "s3fs"),
        ("gs://b/a", "gcsfs", "gcsfs"),
    ],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, url, module, package):
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, url[:2], raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    line = rf"^path = '{url}': the package '{package}' is not installed: pip install 'jaxlm\[remote\]'$"
    with pytest.raises(InputError, match=line):
        record.read(url)


def test_a_store_out_of_reach_is_an_error_of_the_environment_in_one_line(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port, closed
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(OSError, match=r"EndpointConnectionError.*: 's3://bucket/run/run.json'$") as caught:
        record.read("s3://bucket/run")
    assert "\n" not in str(caught.value) and caught.value.filename == "s3://bucket/run/run.json"
    s3fs.S3FileSystem.clear_instance_cache()


def test_one_of_two_creators_succeeds(place):
    files.create(place / "lease" / "0.json", b"first")
    with pytest.raises(FileExistsError):
        files.create(place / "lease" / "0.json", b"second")
    assert files.read_bytes(place / "lease" / "0.json") == b"first"


def test_names_exists_and_remove_of_what_is_not_there(place):
    files.replace_atomically(place / "a" / "b.txt", b"")
    assert (files.names(place / "a"), files.names(place / "none")) == (["b.txt"], [])
    assert files.exists(place / "a" / "b.txt") and not files.exists(place / "a" / "c.txt")
    files.remove(place / "a" / "c.txt")
    files.remove(place / "a" / "b.txt")
    assert not files.exists(place / "a" / "b.txt")


def test_find_takes_the_topmost_runs_and_no_neighbour_for_a_parent(place):
    for name in ("s/a", "s/a-b", "s/a/copy", "s/b/c/d", "s/run.json.d"):
        files.replace_atomically(place / name / "run.json", b"{}")
        files.replace_atomically(place / name / "metrics" / "0-0.jsonl", b"")
    files.replace_atomically(place / "s" / "e" / "my-run.json", b"{}")
    found = record.find(place)
    names = [str(folder).removeprefix(str(place)) for folder in found]
    assert sorted(names) == ["/s/a", "/s/a-b", "/s/b/c/d", "/s/run.json.d"] and found == sorted(found)
    assert record.find(place / "s" / "a") == [place / "s" / "a"]
    assert record.find(place / "s" / "e") == []
    with pytest.raises(InputError, match="^root = '.*none': no such folder$"):
        record.find(place / "none")


def test_a_fit_is_saved_beside_the_records(place):
    fit = fitted.published("chinchilla", "besiroglu2024")
    fitted.save(fit, place / "fit.json")
    assert fitted.load(place / "fit.json").params == fit.params
    with pytest.raises(InputError, match="^fit = '.*none.json': No such file"):
        fitted.load(place / "none.json")
