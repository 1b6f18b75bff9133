"""The pages as a browser gets them: rows, images, tokens, and what is kept from strangers."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cosmo_cli.view.library import Library
from cosmo_cli.view.server import serve
from schemas.tables import PROMPTS, ROLLOUTS, STEPS_GUIDED
from schemas.values import Image
from stages.core.runs.folder import RunFolder
from tests.eval.made import completion, grade, group, run_of, scored_run, steps_run
from tests.support import bombs
from tests.support.cli import ok
from tests.view.made import TOKEN, client, varied

PAYLOADS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "</p></article><iframe srcdoc='<script>top.document.title=1</script>'></iframe>",
    "<svg/onload=document.title='owned'>",
    "<a href='javascript:document.title=1'>x</a>",
    '" autofocus onfocus="document.title=\'owned\'" x="',
    "{{ 7 * 7 }}{% raw %}",
    "</script><script>document.title='owned'</script>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://203.0.113.1/'>",
)


class Seen(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def seen(text: str) -> Seen:
    found = Seen()
    found.feed(text)
    return found


def test_every_row_is_on_a_page_once(tmp_path: Path) -> None:
    groups = varied(50)
    run = scored_run(tmp_path, groups, per_shard=20)
    reader = client(tmp_path)
    found = []
    for page in (1, 2, 3):
        text = reader.get(f"/{TOKEN}/run/{run.path.name}/?page={page}").text
        found += [e[1]["id"] for e in seen(text).elements if e[0] == "article"]
        assert f"page {page} of 3" in text
    assert found == [f"row-{n}" for n in range(50)]
    assert "50 of 50 groups" in text
    # The last page, not an empty one, where somebody asks for a later.
    assert "page 3 of 3" in reader.get(f"/{TOKEN}/run/{run.path.name}/?page=9").text
    row = reader.get(f"/{TOKEN}/run/{run.path.name}/row?id={groups[33].id}").text
    assert groups[33].completions[0].text.rpartition("> ")[2] in seen(row).words
    assert reader.get(f"/{TOKEN}/run/{run.path.name}/row?id=none").status_code == 404


def test_a_card_says_what_was_earned_and_why(tmp_path: Path) -> None:
    from schemas.scored import Term

    better = replace(
        completion(grade("safety", 1.0, "safe_with_warning"), index=1, reward=1.0, tokens=5),
        terms=[Term("safety", 2.0, 0.5)],
    )
    told = group("a question", [completion(grade("safety", 0.0, "unsafe"), reward=0.0), better], harmful=True)
    run = scored_run(tmp_path, [told])
    words = " ".join(seen(client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/").text).words.split())
    # The better one first, with its distance from the mean.
    assert words.index("+0.50") < words.index("−0.50")
    for part in (
        "harmful",
        "a question",
        "thinking",
        "hm",
        "safe with warning",
        "safety 0.50 × 2",
        "5 tokens",
        f"cosmo edit {run.where} --id",
    ):
        assert part in words, part


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_models_words_are_words(payload: str, tmp_path: Path) -> None:
    """In every place where a row has text; whatever is in them, the page has the elements that it has without."""

    def page(text: str, runs: Path) -> Seen:
        made = completion(
            replace(grade("safety", 1.0, text), reason=text, seen=text), text=f"<think>{text}</think>{text}", reward=1.0
        )
        told = group(text, [made], label=text, family=text, task=text, answer=text, reward_formula=text)
        run = scored_run(runs, [told])
        answer = client(runs).get(f"/{TOKEN}/run/{run.path.name}/")
        assert answer.status_code == 200
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        return seen(answer.text)

    plain, hostile = page("plain", tmp_path / "plain"), page(payload, tmp_path / "hostile")
    assert [(tag, sorted(a)) for tag, a in hostile.elements] == [(tag, sorted(a)) for tag, a in plain.elements]
    assert not [a for _, attributes in hostile.elements for a in attributes if a.startswith("on") or a == "style"]
    assert hostile.words.count(payload) >= 5


def test_nobody_without_the_token_and_from_elsewhere_gets_anything(tmp_path: Path) -> None:
    scored_run(tmp_path, varied(3))
    reader = client(tmp_path)
    for path in (
        "/",
        "/run/score/",
        f"/{TOKEN[:-1]}/",
        f"/{TOKEN}x/",
        f"/{TOKEN}/static/pages.py",
        f"/{TOKEN}/run/none/",
    ):
        assert reader.get(path).status_code == 404, path
    assert reader.get(f"/{TOKEN}/", headers={"host": "evil.example"}).status_code == 400
    for path in (f"/{TOKEN}/", f"/{TOKEN}/static/view.js", f"/{TOKEN}/state", "/none"):
        headers = reader.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("key", ["%2e%2e", "..%2f..%2fetc", "score/../../../etc/passwd"])
def test_no_address_leads_out_of_the_runs(key: str, tmp_path: Path) -> None:
    scored_run(tmp_path / "runs", varied(3))
    (tmp_path / "manifest.json").write_text("{}")
    assert client(tmp_path / "runs").get(f"/{TOKEN}/run/{key}/").status_code == 404


def test_images_are_served_small_and_what_is_none_is_not_there(tmp_path: Path) -> None:
    import io

    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.effect_noise((1600, 900), 50).save(buffer, "PNG")
    images = [Image(buffer.getvalue()), Image(b"no image")]
    run = scored_run(tmp_path, [group("look", [completion()], images=images)])
    reader, place = client(tmp_path), f"/{TOKEN}/run/{run.path.name}/image?row=0&n="
    found = reader.get(f"{place}0")
    with Pillow.open(io.BytesIO(found.content)) as opened:
        assert opened.size == (640, 360)
        assert found.headers["content-type"] == f"image/{opened.format.lower()}"
    assert [reader.get(f"{place}{n}").status_code for n in (1, 2, -1, "x")] == [404] * 4
    assert reader.get(f"/{TOKEN}/run/{run.path.name}/image?row=7&n=0").status_code == 404


def test_tokens_are_those_of_the_completion(tmp_path: Path) -> None:
    """With the policy's own tokenizer, found without loading a model."""
    prompts = ok("prepare", "builtin", "--limit", "6", cwd=tmp_path)
    run = ok(
        "rollout", prompts, "--policy", "tiny:qwen2_5_vl", "--samples", "2", "--max-new-tokens", "12", cwd=tmp_path
    )
    reader = client(tmp_path)
    rows = list(RunFolder.open(run).rows(ROLLOUTS))
    for n, row in enumerate(rows[:3]):
        for sampled in row.completions:
            found = reader.get(f"/{TOKEN}/run/{run.name}/tokens?row={n}&index={sampled.index}").json()
            assert found["decoded"]
            assert len(found["texts"]) == len(sampled.token_ids)
            assert found["logprobs"] == pytest.approx(sampled.logprobs, abs=1e-3)
            assert "".join("".join(found["texts"]).split()).startswith("".join(sampled.text.split())[:6])
            assert all(0 <= shade <= 9 for shade in found["shades"])
    text = reader.get(f"/{TOKEN}/run/{run.name}/").text
    assert f"tokens?row=0&amp;index={rows[0].completions[0].index}" in text
    assert reader.get(f"/{TOKEN}/run/{prompts.name}/tokens?row=0&index=0").status_code == 404


@pytest.mark.parametrize("policy", ["someone/model", "/etc", "../..", "https://203.0.113.1/model"])
def test_a_strangers_manifest_sends_nobody_for_a_tokenizer(policy: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, "rollout", ROLLOUTS, [group("words", [completion(tokens=4)])], policy=policy)
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["provenance"]["policy"] = policy
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    found = client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/tokens?row=0&index=0").json()
    assert (found["decoded"], found["texts"]) == (False, [" 0", " 1", " 2", " 3"])


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    groups = varied(4)
    run = scored_run(tmp_path / "a", groups)
    words = "what the other one says"
    others = [replace(g, completions=[replace(g.completions[0], text=words)]) for g in groups[1:]]
    other = scored_run(tmp_path / "b", others)
    reader = client(tmp_path)
    keys = list(Library([tmp_path]).entries())
    assert len(keys) == 2
    here = next(k for k in keys if k.startswith(run.path.name))
    there = next(k for k in keys if k.startswith(other.path.name) and k != here)
    told = seen(reader.get(f"/{TOKEN}/run/{here}/?beside={there}").text).words
    assert told.count(words) == 3
    assert told.count("Was not asked.") == 1


def test_a_damaged_run_is_listed_with_its_reason_and_hides_no_other(tmp_path: Path) -> None:
    fine = scored_run(tmp_path, varied(3))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "manifest.json").write_text("{")
    damaged = scored_run(tmp_path / "more", varied(5))
    damaged.shard_paths()[0].write_bytes(b"no parquet")
    reader = client(tmp_path)
    text = reader.get(f"/{TOKEN}/").text
    assert "can&#39;t be read" in text or "can't be read" in text
    assert fine.path.name in text
    key = next(
        e for e in seen(text).elements if e[0] == "tr" and (e[1].get("data-words") or "").startswith(damaged.path.name)
    )
    answer = reader.get(f"/{TOKEN}/run/{(key[1]['data-words'] or '').split()[0]}/")
    assert answer.status_code in (200, 422)
    assert reader.get(f"/{TOKEN}/run/torn/").status_code in (404, 422)
    assert "can't be shown" in seen(reader.get(f"/{TOKEN}/run/torn/").text).words


def test_training_is_curves_of_all_that_led_to_it(tmp_path: Path) -> None:
    from tests.eval.made import step

    run = steps_run(tmp_path, [step(n) for n in range(1, 9)])
    text = client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/").text
    assert "<svg" in text
    assert "Of 1 training run" in " ".join(seen(text).words.split())


def test_prompts_have_cards_without_completions(tmp_path: Path) -> None:
    from schemas.arrow import hints
    from schemas.prompts import PromptRow

    rows = [PromptRow(**{name: getattr(g, name) for name in hints(PromptRow)}) for g in varied(3)]
    run = run_of(tmp_path, "prepare", PROMPTS, rows)
    text = client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/?q=boat").text
    assert "1 of 3 groups" in " ".join(seen(text).words.split())


def test_lineage_is_a_picture_of_links(tmp_path: Path) -> None:
    """Two levels down a real chain, and no further than it goes."""
    prompts = ok("prepare", "builtin", "--limit", "4", cwd=tmp_path)
    groups = ok(
        "rollout", prompts, "--policy", "tiny:qwen2_5_vl", "--samples", "2", "--max-new-tokens", "8", cwd=tmp_path
    )
    scored = ok("score", groups, cwd=tmp_path)
    reader = client(tmp_path / "runs")

    def drawn(run: Path) -> set[str]:
        elements = seen(reader.get(f"/{TOKEN}/run/{run.name}/").text).elements
        paths = sum(tag == "path" and not a.get("class") for tag, a in elements)
        assert paths == 2, paths
        return {
            (a["href"] or "").split("/")[3]
            for tag, a in elements
            if tag == "a" and "/run/" in (a.get("href") or "") and "row?" not in (a.get("href") or "")
        }

    assert drawn(scored) == {prompts.name, groups.name, scored.name}
    assert drawn(groups) == {prompts.name, groups.name, scored.name}


def test_a_ring_of_runs_is_drawn_and_ends() -> None:
    """Manifests from elsewhere may name each other."""
    from cosmo_cli.view.library import Entry
    from cosmo_cli.view.lineage import draw_lineage

    entries = {k: Entry(k, Path(k), "score", parents=(p,)) for k, p in (("a", "b"), ("b", "c"), ("c", "a"))}
    assert {n.entry.key for n in draw_lineage(entries, entries["a"])["nodes"]} == {"a", "b", "c"}


def test_an_edit_is_shown_with_what_stood_there(tmp_path: Path) -> None:
    from schemas.prompts import Edit

    edit = Edit(
        by="ana", why="wrong town", index=0, policy_id="p", seed=1, temperature=1.0, top_p=1.0, top_k=0, noise_id="n",
        noise_index=0, at_token=0, token_ids=[1], logprobs=[0.0], generated=[False], written=[True],
        before="<b>old</b>", after="new", text="new",
    )  # fmt: skip
    run = scored_run(tmp_path, [replace(group("words", [completion()]), edit=edit)])
    words = " ".join(seen(client(tmp_path).get(f"/{TOKEN}/run/{run.path.name}/").text).words.split())
    assert all(part in words for part in ("edited by ana: wrong town", "<b>old</b>", "new"))


def test_choices_of_a_guided_completion(tmp_path: Path) -> None:
    """What was kept at each step is what the completion is made of; a scored run finds it in its rollout."""
    prompts = ok("prepare", "builtin", "--limit", "4", cwd=tmp_path)
    sampled = [
        "--policy",
        "tiny:qwen2_5_vl",
        "--samples",
        "2",
        "--max-new-tokens",
        "16",
        "--set",
        "guide.k=3",
        "--set",
        "guide.pick=random",
    ]
    groups = ok("rollout", prompts, *sampled, cwd=tmp_path)
    scored = ok("score", groups, cwd=tmp_path)
    reader = client(tmp_path / "runs")
    rows = list(RunFolder.open(groups).rows(ROLLOUTS))
    for run in (groups, scored):
        for n, row in enumerate(rows):
            steps = reader.get(f"/{TOKEN}/run/{run.name}/choices?row={n}&index=1").json()
            assert steps
            assert all(len(s["candidates"]) == 3 and sum(c["kept"] for c in s["candidates"]) == 1 for s in steps)
            kept = "".join(c["text"] for s in steps for c in s["candidates"] if c["kept"])
            assert "".join(kept.split()).startswith("".join(row.completions[1].text.split())[:12])
    assert "data-choices" in reader.get(f"/{TOKEN}/run/{groups.name}/").text
    assert reader.get(f"/{TOKEN}/run/{groups.name}/choices?row=0&index=9").json() == []
    assert reader.get(f"/{TOKEN}/run/{groups.name}/choices?row=99&index=0").status_code == 404
    # Decoded it would be gigabytes: a stranger's choices are measured before.
    (choices,) = groups.glob(f"{STEPS_GUIDED.name}/*.parquet")
    bombs.inside_lists(choices)
    answer = reader.get(f"/{TOKEN}/run/{scored.name}/choices?row=0&index=1")
    assert (answer.status_code, "stands for" in answer.text) == (422, True), answer.text[:2000]


def test_half_a_surrogate_pair_in_a_strangers_settings_is_spelled_out(tmp_path: Path) -> None:
    run = scored_run(tmp_path, [group("words", [completion()])]).path
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "odd": "\ud800"}))
    answer = client(tmp_path).get(f"/{TOKEN}/run/{run.name}/")
    assert answer.status_code == 200
    assert "\\ud800" in answer.text
    state = client(tmp_path).get(f"/{TOKEN}/state?run={run.name}")
    assert state.status_code == 200


class _Stop(Exception):
    """Ends a server before it has begun."""


def test_whoever_is_told_the_address_may_ask_at_once(tmp_path: Path) -> None:
    def ready(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()
        raise _Stop

    with pytest.raises(_Stop):
        serve(client(tmp_path).app, 0, ready)  # type: ignore[arg-type]
