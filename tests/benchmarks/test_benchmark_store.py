"""The store: results are on disk after every case, say which run they come from, and are replaced case by case."""

import json

import pytest
from driver import Step, carry_out
from store import Store


def record(value):
    return {"times": [{"name": "x", "median": value}]}


def on_disk(path):
    return json.loads(path.read_text())


def rows(store):
    return [(t["case"], t["median"], t["run"]) for t in store.results["times"]]


def test_every_case_is_on_disk_before_the_next(tmp_path):
    path = tmp_path / "results.json"
    store = Store(path, "attention", {"date": "today"})

    def second():
        assert [t["case"] for t in on_disk(path)["times"]] == ["a"]
        return record(2)

    carry_out([Step("a", lambda: record(1)), Step("b", second)], store)
    assert on_disk(path)["done"] == ["a", "b"]
    assert not on_disk(path)["complete"]
    store.finish(["a", "b"])
    assert on_disk(path)["complete"]


def test_a_case_that_fails_leaves_the_others(tmp_path):
    path = tmp_path / "results.json"

    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        carry_out([Step("a", lambda: record(1)), Step("b", fails)], Store(path, "attention", {}))
    assert [t["case"] for t in on_disk(path)["times"]] == ["a"]


def test_resuming_measures_what_is_missing_and_again_replaces(tmp_path):
    path = tmp_path / "results.json"
    carry_out([Step("a", lambda: record(1)), Step("b", lambda: record(2))], Store(path, "attention", {"date": "one"}))
    later = Store(path, "attention", {"date": "two"}, resume=True)
    steps = [Step("a", lambda: record(10)), Step("c", lambda: record(3))]
    carry_out(steps, later)
    assert [(t["case"], t["median"], t["run"]) for t in later.results["times"]] == [
        ("a", 1, 0),
        ("b", 2, 0),
        ("c", 3, 1),
    ]
    carry_out(steps[:1], later, again=True)
    assert [(t["case"], t["median"], t["run"]) for t in later.results["times"]] == [
        ("b", 2, 0), ("c", 3, 1), ("a", 10, 1),
    ]  # fmt: skip
    assert [run["date"] for run in on_disk(path)["runs"]] == ["one", "two"]


def test_a_new_run_without_resume_starts_from_nothing(tmp_path):
    path = tmp_path / "results.json"
    Store(path, "attention", {}).add("a", record(1))
    assert not Store(path, "attention", {}).has("a")


def test_a_store_without_a_file_keeps_results_in_memory():
    store = Store(None, "attention", {})
    store.add("a", record(1))
    assert store.has("a")
    store.finish(["a", "b"])
    assert not store.results["complete"]
