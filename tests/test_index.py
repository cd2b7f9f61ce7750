"""The index as it grows: exact while it is small, sorted into parts when it is large."""

import numpy as np
import pytest
from lancedb.index import IvfFlat
from library import rows

from storycli.library import index
from storycli.library.index import Index, parts, state

ENCODER = {"name": "none", "digest": "0"}


@pytest.fixture
def small(monkeypatch):
    """A hundred rows count as many."""
    monkeypatch.setattr(index, "EXACT", 100)
    monkeypatch.setattr(index, "PROBES", 4)


@pytest.fixture
def table(tmp_path):
    return Index(tmp_path, ENCODER)


def clustered(count, seed=0, clusters=8):
    """Unit vectors around a few directions, float16 exact."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((clusters, 32))
    vectors = centres[rng.integers(clusters, size=count)] + 0.2 * rng.standard_normal((count, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def ids(table, found):
    """The ids of found rows, in their order."""
    return [table.take([row], ["id"])["id"][0].as_py() for row in found]


def best(vectors, query, count):
    lengths = np.linalg.norm(vectors, axis=1)  # not quite 1 in half precision
    return [f"{i:08d}" for i in np.argsort(-(vectors @ query) / lengths, kind="stable")[:count]]


def vector_indices(table):
    return {found.name: (found.num_indexed_rows, found.num_unindexed_rows) for found in table.table.list_indices()}


def test_the_number_of_parts_grows_with_the_root_of_the_rows():
    assert [parts(n) for n in (1, 100_000, 100_001, 250_000, 1_000_000, 10_000_000)] == [0, 0, 256, 512, 1024, 4096]


def test_a_small_table_is_searched_exactly(table):
    vectors = clustered(300)
    table.insert(rows(vectors))
    table.tidy()
    assert set(vector_indices(table)) == {"words_idx"}
    assert ids(table, table.nearest("visual", vectors[7], 20)) == best(vectors, vectors[7], 20)


def test_a_large_table_is_searched_by_parts_whose_vectors_are_compared_exactly(small, table):
    vectors = clustered(400)
    table.insert(rows(vectors))
    table.tidy()
    assert vector_indices(table)["visual_rq_16"] == (400, 0)
    assert vector_indices(table)["said_rq_16"] == (400, 0)
    query = clustered(1, seed=5)[0]
    found = ids(table, table.nearest("visual", query, 15))
    assert len(set(found)) == 15
    products = [float(vectors[int(name)] @ query) for name in found]
    assert products[:5] == sorted(products[:5], reverse=True)
    assert found[0] == best(vectors, query, 1)[0]
    assert ids(table, table.nearest("visual", query, 50, exact=True)) == best(vectors, query, 50)


def test_enough_parts_find_what_exact_search_finds(small, table, monkeypatch):
    monkeypatch.setattr(index, "PROBES", 16)
    vectors = clustered(400)
    table.insert(rows(vectors))
    table.tidy()
    shared = []
    for query in clustered(5, seed=5):
        found, exact = ids(table, table.nearest("visual", query, 10)), best(vectors, query, 10)
        assert found[:3] == exact[:3]
        shared.append(len({*found} & {*exact}))
    assert sum(shared) >= 47  # of 50: vectors are put forward by codes, whose axes Lance turns at random


def test_new_rows_are_found_at_once_and_sorted_in_by_the_next_run(small, table):
    vectors = clustered(400)
    table.insert(rows(vectors[:300]))
    table.tidy()
    table.insert(rows(vectors[300:], first=300))
    for unsorted in (100, 0):
        assert vector_indices(table)["visual_rq_16"] == (400 - unsorted, unsorted)
        assert ids(table, table.nearest("visual", vectors[350], 10)[:1]) == ["00000350"]
        table.tidy()


def test_a_table_that_has_outgrown_its_parts_gets_more_of_them(small, table):
    vectors = clustered(2000)
    table.insert(rows(vectors[:300]))
    table.tidy()
    table.insert(rows(vectors[300:], first=300))
    table.tidy()
    assert set(vector_indices(table)) == {"words_idx", "visual_rq_32", "said_rq_32"}
    assert ids(table, table.nearest("visual", vectors[1999], 10)[:1]) == ["00001999"]


def test_where_the_parts_have_too_few_rows_that_pass_a_filter_all_are_compared(small, table, monkeypatch):
    monkeypatch.setattr(index, "PROBES", 1)
    vectors = clustered(400)
    table.insert(rows(vectors[:380]))
    table.insert(rows(vectors[380:], first=380, seconds=9.0))
    table.tidy()
    near = table.table.search(vectors[3], vector_column_name="visual").distance_type("cosine").nprobes(1)
    assert len(near.where("seconds > 5").limit(20).to_list()) < 20
    found = ids(table, table.nearest("visual", vectors[3], 20, "seconds > 5"))
    assert sorted(found) == [f"{i:08d}" for i in range(380, 400)]


def test_a_clip_of_which_something_is_said_is_found_among_many_of_which_nothing_is(small, table):
    said = np.zeros(384, np.float32)
    said[7] = 1
    vectors = clustered(400)
    table.insert(rows(vectors[:399]))
    table.insert(rows(vectors[399:], first=399, said=said))
    table.tidy()
    assert vector_indices(table)["said_rq_16"] == (400, 0)
    assert ids(table, table.nearest("said", said, 10))[0] == "00000399"


def test_an_index_whose_parts_an_earlier_version_made_is_searched_and_gets_new_ones(small, table):
    vectors = clustered(400)
    table.insert(rows(vectors))
    table.table.create_index("visual", config=IvfFlat(distance_type="dot", num_partitions=16), name="visual_16")
    assert ids(table, table.nearest("visual", vectors[3], 10)) == best(vectors, vectors[3], 10)
    table.tidy()
    assert set(vector_indices(table)) == {"words_idx", "visual_rq_16", "said_rq_16"}


def test_the_state_of_an_index_changes_with_its_rows_and_with_nothing_else(table, tmp_path):
    assert state(tmp_path) == []
    table.insert(rows(clustered(10)))
    before = state(tmp_path)
    (tmp_path / "writing.lock").touch()
    assert state(tmp_path) == before
    table.insert(rows(clustered(10), first=10))
    assert state(tmp_path) != before


def test_removed_rows_are_not_found(small, table):
    vectors = clustered(400)
    table.insert(rows(vectors))
    table.tidy()
    table.remove(["00000003"])
    assert ids(table, table.nearest("visual", vectors[3], 1)) != ["00000003"]
    table.tidy()
    assert len(table) == 399
    assert ids(table, table.nearest("visual", vectors[3], 1)) != ["00000003"]


def test_another_opening_of_the_table_uses_the_parts(small, table):
    table.insert(rows(clustered(400)))
    table.tidy()
    again = Index(table.folder, ENCODER)
    plan = again.table.search(clustered(1)[0], vector_column_name="visual").distance_type("cosine").explain_plan()
    assert "ANNSubIndex: name=visual_rq_16" in plan
