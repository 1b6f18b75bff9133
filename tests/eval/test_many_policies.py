"""Many policies side by side: a table that fits a terminal, and who wants a judge of which run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cosmo_cli.terminal.output import Output
from schemas.tables import EVALS
from stages.core.runs.folder import RunFolder, artifact
from stages.eval import views
from stages.eval.judges import judge_lines
from stages.eval.table import GAP, TurnedTable, summary_table, turned_table
from tests.eval.made import attacked, completion, grade, group, scored_run
from tests.eval.test_stage import evaluate, summary

POLICIES = 5


def asked(number: int, undecided: int) -> list[Any]:
    """Four questions, of which as many are right as the policy's number, and twenty attacks."""
    policy = f"policy-{number}"
    rows = [
        group(f"q{i}", [completion(grade("answer", float(i < number)), policy=policy)], answer="two") for i in range(4)
    ]
    rows += [attacked(f"a{i}", ["safe_with_refusal"], policy=policy) for i in range(20 - undecided)]
    open_ = completion(grade("safety", None, status="undecided"), policy=policy)
    return rows + [group(f"u{i}", [open_], label="safety", harmful=True) for i in range(undecided)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Five policies, the third with too much undecided."""
    runs = tmp_path_factory.mktemp("runs")
    folders = [scored_run(runs, asked(n, 2 if n == 2 else 0)) for n in range(POLICIES)]
    return evaluate(runs, folders, names=[f"s{n}" for n in range(POLICIES)])


def turned(folder: RunFolder, width: int) -> TurnedTable:
    return turned_table(list(folder.rows(EVALS)), summary(folder)["differences"], None, width)


def test_a_line_for_each_policy_fits_eighty_columns(
    compared: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = Output("eval")
    assert not output.fits(summary_table(list(compared.rows(EVALS)), summary(compared)["differences"]))
    found = turned(compared, 80)
    output.parts(found.header, found.parts, GAP)
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    at = lines.index("capability")
    assert lines[at + 2].split()[:5] == ["s1", "0.250", "[0.046,", "0.699]", "+0.250"]
    assert [line.split()[0] for line in lines[at + 1 : at + 1 + POLICIES]] == ["s0", "s1", "s2", "s3", "s4"]
    assert "not judged" in lines[lines.index("unsafe_compliance") + 3]
    assert "needless_refusal" in found.unmeasured
    assert found.legend == []


def test_long_names_are_numbered(compared: RunFolder) -> None:
    found = turned(compared, 40)
    assert found.legend[:2] == ["1: s0", "2: s1"]
    assert found.header[-1] == "against 1"
    assert [line[0] for line in found.parts[0][1]] == ["1", "2", "3", "4", "5"]


def test_the_page_has_a_line_for_each_policy_too(compared: RunFolder) -> None:
    page = artifact(compared.path, "report.html").read_text(encoding="utf-8")
    assert 'class="metrics turned"' in page
    assert page.count('rowspan="5"') == 2 * len(turned(compared, 80).parts)


def test_only_the_run_that_wants_a_judge_is_named(compared: RunFolder) -> None:
    lines = judge_lines(list(compared.rows(EVALS)), compared.upstream())
    (command,) = [line for line in lines if line.startswith("to judge them")]
    assert str(compared.upstream()[2].where) in command
    assert any(line.startswith("capability of all 5 policies: judged by rule answer v1") for line in lines)


def test_right_answers_name_their_judge_as_safety_does(tmp_path: Path) -> None:
    open_ = completion(grade("answer", None, status="undecided"), policy="policy-1")
    left = [group(f"left {i}", [open_], answer="two") for i in range(2)]
    scored = scored_run(tmp_path, [*asked(1, 0)[:4], *left])
    folder = evaluate(tmp_path, [scored], metrics=["capability"])
    (row,) = [r for r in folder.rows(EVALS) if r.slice == "all"]
    # Printed all the same, with what it leaves out.
    assert (row.value, row.undecided) == (0.25, 2)
    lines = judge_lines([row], folder.upstream())
    assert lines[0].endswith("judged by rule answer v1; 33 % of 6 completions undecided, and left out")
    assert "prompt=general" in lines[1]
    assert "undecided.answer=answer_judge" in lines[1]


def test_token_ids_are_read_where_their_number_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [group(f"q{n}", [completion(index=i, tokens=10 * n + i) for i in range(n % 3)]) for n in range(9)]
    (shard,) = scored_run(tmp_path, rows).shard_paths()
    # A row group comes in several batches.
    monkeypatch.setattr(views, "_BATCH_ROWS", 4)
    looked: list[int] = []
    counted = views._token_counts

    def counting(shard: Path, row_group: int) -> list[int]:
        looked.append(row_group)
        return counted(shard, row_group)

    monkeypatch.setattr(views, "_token_counts", counting)
    found = list(views.read_views(shard))
    assert not looked
    assert [[c.tokens for c in view.completions] for view in found] == [
        [10 * n + i for i in range(n % 3)] for n in range(9)
    ]
    assert looked == [0]
