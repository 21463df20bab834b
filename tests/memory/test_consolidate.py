"""Merging what is alike, caps, skill documents, taxonomies and conditions."""

from __future__ import annotations

from typing import Any

import pytest

from ferrule.agents.refine import settled
from ferrule.core.flows import Ask
from ferrule.core.records import Reply, Score, Task, Trajectory, plain_text
from ferrule.memory.conditions import best_condition, condition_score, conditioned, fared_of, note_fared
from ferrule.memory.consolidate import alike_pairs, insert, reduce, worded
from ferrule.memory.entries import Change, Entry
from ferrule.memory.library import Library
from ferrule.memory.skills import adapted_skill, keep_skill, merged_skill, refined_skill, skill_of, written_skill
from ferrule.memory.taxonomy import filed, grown, labels_in
from ferrule.policies.scripted import Scripted
from ferrule.rollout.settle import settle

PLACES = {"a": (1, 0, 0), "b": (0.9, 0.436, 0), "c": (0, 1, 0), "d": (0, 0, 1)}


def places(texts: Any) -> Any:
    """The vectors of the worked examples of 40; a merged text lies where its first part does."""
    return [PLACES[text.split("+")[0]] for text in texts]


def joined(texts: Any) -> str:
    return "+".join(texts)


def built(*texts: str) -> Library:
    library = Library(encode=places)
    for text in texts:
        settled(insert(library, Change("add", text=text), joined))
    return library


def texts(library: Library) -> list[str]:
    return [entry.text for entry in library.entries()]


def test_what_is_new_is_merged_with_what_is_like_it() -> None:
    """Worked examples 1 and 2: b and a have cosine 0.9, c and the merged text 0.436."""
    assert texts(built("a")) == ["a"]
    library = built("a", "b", "c")
    assert texts(library) == ["b+a", "c"]
    assert [entry.id for entry in library.entries()] == ["E2", "E3"], "ids are stable: the merged entry has a new one"
    assert library["E2"].merged == ("E1",)
    assert texts(built("a", "b")) == ["b+a"]


def test_a_merge_that_fails_adds_the_new_text_alone() -> None:
    library = built("a")
    settled(insert(library, Change("add", text="b"), lambda texts: " "))
    assert texts(library) == ["a", "b"]
    settled(insert(library, Change("add", text="d"), joined, check=lambda entry, old: "no" if old else ""))
    assert texts(library) == ["a", "b", "d"]
    refused = settled(insert(library, Change("add", text="c"), joined, check=lambda entry, old: "no"))
    assert (refused.problem, texts(library)) == ("no", ["a", "b", "d"])


def test_pairs_are_merged_until_all_fits() -> None:
    library = Library(encode=places)
    for text in ("a", "d", "b", "a+1", "d+1"):
        library.add(text)
    pairs = [(one.text, other.text) for one, other, _ in alike_pairs(library, threshold=0.7)]
    assert pairs == [("a", "a+1"), ("d", "d+1"), ("a", "b"), ("b", "a+1")]
    assert settled(reduce(library, joined, limit=5)) == []
    merged = settled(reduce(library, joined, limit=4))
    assert [one.entry.text for one in merged if one.entry] == ["a+a+1"], "no more than are too many"
    settled(reduce(library, joined, limit=1))
    assert texts(library) == ["d+d+1", "b+a+a+1"], "rounds end where nothing is alike any more"
    assert settled(reduce(library, joined, limit=1)) == []


def test_a_model_words_what_is_merged_and_one_that_is_cut_off_does_not() -> None:
    seen: list[str] = []

    def script(request: Ask, sample: int) -> str:
        seen.append(plain_text(request.messages[0]))
        return " one note "

    asked: Any = worded()(["x", "y"])
    assert settle([asked], {"writer": Scripted(script)}).values == ("one note",)
    assert "- x\n- y" in seen[0]
    flow: Any = worded()(["x"])
    next(flow)
    with pytest.raises(StopIteration) as stop:
        flow.send((Reply(Scripted(["half"]).generate([Ask(())])[0][0].message, finish="length"),))
    assert stop.value.value == ""


def test_a_skill_document_has_versions_and_is_merged_refined_and_adapted_by_a_model() -> None:
    library = Library()
    assert skill_of(library) is None
    keep_skill(library, "first")
    assert keep_skill(library, "second").version == 2
    keep_skill(library, "of another kind of tasks", name="maps")
    document = skill_of(library)
    assert document is not None
    assert (document.text, document.id) == ("second", "E1")
    assert library.search("second") == [], "documents are not recalled as experiences are"
    asked: list[str] = []

    def script(request: Ask, sample: int) -> str:
        asked.append(f"{request.role}: {plain_text(request.messages[0])}")
        return "" if "Shorten" in asked[-1] else "written"

    task = Task("t", "Where?", "42")
    flows = [
        written_skill(task, Trajectory(task, (), "41"), Score(0.0)),
        merged_skill("", ["x", "y"]),
        adapted_skill(task, "document", [Entry("E9", "tip")]),
        refined_skill("short"),
        refined_skill("word " * 1000),
    ]
    policy = Scripted(script)
    values = settle(flows, {"writer": policy, "adapter": policy}).values
    assert values == ("written", "written", "written", "short", "word " * 1000), "a failure leaves the document"
    told = "\n".join(asked)
    assert "The right answer: 42" in told
    assert "adapter: " in told
    assert "[E9] tip" in told
    assert "Document 1:\nx" in told, "an empty document is none"


def test_labels_find_what_shares_one_in_the_same_stage() -> None:
    """Worked example 3 of 46."""
    labels = labels_in({"General Formulation": {"Variable Definition": ["Integrality", "Bounds"]}})
    entries = [
        Entry("E1", "x", labels=labels),
        Entry("E2", "y", labels=labels_in({"Domain": {"Variable Definition": ["Bounds"]}})),
    ]
    found = filed(entries, {"General Formulation": {"Variable Definition": ["Bounds"]}})
    assert [entry.id for entry in found] == ["E1"]
    assert filed(entries, {}) == filed(entries, {"General Formulation": {"Other": ["Bounds"]}}) == []


def test_a_taxonomy_grows_and_overwrites_nothing() -> None:
    """Worked example 4 of 46."""
    taxonomy = {"Domain Modeling": {"Routing": {"MTZ": {"definition": "old"}}}}
    labels = {
        "domain modeling": {"routing": {"mtz": {"definition": "new"}, "Time Windows": None}},
        "Other": {"a": {"b": None}},
    }
    tree = grown(taxonomy, labels)
    assert tree == {"Domain Modeling": {"Routing": {"MTZ": {"definition": "old"}, "Time Windows": {}}}}
    assert taxonomy["Domain Modeling"]["Routing"] == {"MTZ": {"definition": "old"}}
    assert grown(tree, {"Domain Modeling": {"Packing": {"Knapsack": {}}}})["Domain Modeling"]["Packing"] == {
        "Knapsack": {}
    }


def test_a_condition_is_chosen_by_what_it_retrieves() -> None:
    """Worked example 2 of 46: (4 + 1 + 2 - 1) / 8 = 0.75; (3 + 0 + 1) / 8 = 0.5 is not above the baseline 4 / 8."""
    library = Library()
    library.add("x", when="old")
    tasks: Any = {f"p{i}": "positive" for i in range(4)} | {f"n{i}": "negative" for i in range(2)}
    entry = note_fared(library, "E1", {**tasks, "u0": "unretrieved", "u1": "unretrieved", "i": "irrelevant"})
    reach = {
        "narrow": {"p0", "p1", "p2", "n0"},
        "good": {"p0", "p1", "p2", "p3", "n0", "u0"},
    }
    assert condition_score(entry, lambda task: task in reach["good"]) == 0.75
    assert condition_score(entry, lambda task: task in reach["narrow"]) == 0.5
    assert best_condition(entry, ["narrow", "good"], lambda e, task: task in reach[e.when]) == ("good", 0.75)
    assert best_condition(entry, ["narrow"], lambda e, task: task in reach[e.when]) is None
    again = note_fared(library, "E1", {"n0": "positive"})
    assert fared_of(again, "negative") == ("n1",)
    assert fared_of(again, "positive")[-1] == "n0"
    assert again.version == 3
    assert condition_score(Entry("E2", "y"), lambda task: True) == 0.0
    assert best_condition(Entry("E2", "y"), ["a"], lambda e, task: True) is None
    assert conditioned("old", applies=["u", "u"], not_applies=["n"]) == "old\nDoes not apply: n.\nApplies: u."
