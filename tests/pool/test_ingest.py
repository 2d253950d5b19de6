from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalmix.config import PoolConfig
from causalmix.errors import PoolError
from causalmix.pool import records as records_module
from causalmix.pool.documents import BadRecordError, Problems, parse_messages, split_text
from causalmix.pool.ingest import Tally, read_documents, read_heldout
from causalmix.pool.sources import find_sources, plan_shards
from causalmix.pool.stage import run_stage
from causalmix.pool.stages import build_documents, build_tokenizer
from causalmix.pool.tokens import build_tokens
from tests.pool.conftest import chat, make_records

Write = Callable[[str, Any], Path]


def config(path: Path | str, **changes: Any) -> PoolConfig:
    return PoolConfig(name="test", source=changes.pop("source", "jsonl"), path=str(path), **changes)


def build(cfg: PoolConfig, tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "stage"
    folder.mkdir()
    return build_documents(folder, cfg, find_sources(cfg), progress=False)


def message_of(cfg: PoolConfig, tmp_path: Path) -> str:
    with pytest.raises(PoolError) as error:
        build(cfg, tmp_path)
    return str(error.value)


@pytest.fixture
def good_folder(write_lines: Write, tmp_path: Path) -> Path:
    write_lines("data/train-math.jsonl.gz", make_records("math", 30))
    write_lines("data/train-code.jsonl", make_records("code", 20))
    write_lines("data/heldout-math.jsonl.gz", make_records("math", 3))
    return tmp_path / "data"


# --- what is read ----------------------------------------------------------------------------------------


def test_folder_is_read_by_file_name(good_folder: Path, tmp_path: Path) -> None:
    summary = build(config(good_folder), tmp_path)
    assert summary["domains"] == ["code", "math"]
    assert summary["n_documents"] == 50
    assert summary["heldout"] == {"math": 3}
    counts = summary["counts"]["math"]
    assert counts["documents"] == counts["candidate"] + counts["reference"] == 30


def test_one_file_with_a_domain_field(write_lines: Write, tmp_path: Path) -> None:
    records = [
        {
            "topic": "math" if at % 2 else "code",
            "instruction": "Add",
            "input": f"{at} + 1",
            "output": str(at + 1),
        }
        for at in range(40)
    ]
    path = write_lines("all.jsonl", records)
    cfg = config(path, domain_field="topic")
    (shard,) = plan_shards(cfg, find_sources(cfg))
    documents = [document for _, document, _ in read_documents(cfg, shard, Problems(), Tally())]
    assert {document.domain for document in documents} == {"math", "code"}
    assert documents[1].messages[0].content == "Add\n1 + 1"
    assert documents[1].id == "all.jsonl:2"  # no id: its place is its name


def test_glob_reads_only_what_it_matches(good_folder: Path) -> None:
    cfg = config(good_folder / "train-*.gz")
    assert [path.name for path in find_sources(cfg).train] == ["train-math.jsonl.gz"]


def test_parquet_reads_like_jsonl(good_folder: Path, tmp_path: Path) -> None:
    for name in ("math", "code"):
        table = pa.Table.from_pylist(make_records(name, 20))
        (tmp_path / "tables").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "tables" / f"{name}.parquet")
    summary = build(config(tmp_path / "tables", source="parquet"), tmp_path)
    assert summary["domains"] == ["code", "math"]


def test_heldout_fields_name_ability_task_and_split(write_lines: Write, tmp_path: Path) -> None:
    write_lines("train-a.jsonl", make_records("a", 2))
    record = {"id": 1, "ability": "reasoning", "task": "bbh", "split": "unseen", "messages": chat("q", "a")}
    write_lines("heldout-a.jsonl", [record, {"id": 2, "messages": chat("q", "a")}])
    cfg = config(tmp_path)
    first, second = read_heldout(cfg, find_sources(cfg), Problems())
    assert (first.id, first.ability, first.task, first.split) == ("1", "reasoning", "bbh", "unseen")
    assert (second.ability, second.task, second.split) == ("a", "a", None)


def test_ids_are_never_paths(write_lines: Write, tmp_path: Path) -> None:
    records = make_records("a", 20)
    records[0]["id"] = "../../escape"
    write_lines("data/a.jsonl", records)
    write_lines("data/b.jsonl", make_records("b", 20))
    build(config(tmp_path / "data"), tmp_path)
    assert not list(tmp_path.parent.rglob("escape*"))


def test_content_hash_follows_content(good_folder: Path) -> None:
    before = find_sources(config(good_folder)).hash_content()
    moved = good_folder.rename(good_folder.parent / "moved")
    assert find_sources(config(moved)).hash_content() == before
    (moved / "train-code.jsonl").write_text(json.dumps(make_records("code", 1)[0]))
    assert find_sources(config(moved)).hash_content() != before


# --- bad input: each message is read ---------------------------------------------------------------------


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"pool.path=.*nowhere: no such file or folder"):
        find_sources(config(tmp_path / "nowhere"))
    with pytest.raises(PoolError, match=r"pool.source=jsonl needs pool.path"):
        find_sources(PoolConfig(name="x", source="jsonl"))


def test_wrong_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PoolError, match=r"holds no \.jsonl or \.jsonl\.gz file \(found: notes\.txt\)"):
        find_sources(config(tmp_path))


def test_only_heldout_files(write_lines: Write, tmp_path: Path) -> None:
    write_lines("heldout-a.jsonl", make_records("a", 2))
    with pytest.raises(PoolError, match="holds only held-out files"):
        find_sources(config(tmp_path))


def test_empty_file(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-safety.jsonl", [])
    assert "train-safety.jsonl: the file is empty" in message_of(config(good_folder), tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "not a JSON object but a list"),
        ('{"id": 1}', "has neither 'messages' nor 'instruction' and 'output' (it has id)"),
        ({"messages": []}, "'messages' is a list; it must be a non-empty list of turns"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no assistant turn"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0] 'content' is null, not text"),
        ({"messages": [{"role": "assistant", "content": 7}]}, "messages[0] 'content' is a int, not text"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "role 'bot'; allowed are system, user, assistant"),
        ({"messages": ["hello"]}, "messages[0] is a str"),
        ({"instruction": "q", "output": None}, "'output' is null, not text"),
        ({"instruction": "q"}, "'output' is null, not text"),
        ({"id": None, "messages": chat("q", "a")}, "'id' is null"),
        ({"domain": "a.b", "messages": chat("q", "a")}, "'domain' is 'a.b'; a name has letters"),
        ({"domain": None, "messages": chat("q", "a")}, "'domain' is null"),
        ('{"messages": [{"role": "assistant", "content": "\\ud800"}]}', "half of a surrogate pair"),
    ],
)
def test_bad_line_is_named(good_folder: Path, write_lines: Write, tmp_path: Path, line: Any, says: str) -> None:
    write_lines("data/train-code.jsonl", [*make_records("code", 2), line])
    message = message_of(config(good_folder), tmp_path)
    assert "train-code.jsonl:3: " in message
    assert says in message
    assert "run the same command again" in message


def test_unknown_domain_gets_the_nearest_name(good_folder: Path, tmp_path: Path) -> None:
    message = message_of(config(good_folder, domains=["maths", "code"]), tmp_path)
    assert "unknown domain 'math' (did you mean 'maths'?); pool.domains allows maths, code" in message
    assert "30 problems" in message


def test_duplicate_ids_name_both_places(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-code.jsonl", [*make_records("code", 3), make_records("code", 1)[0]])
    message = message_of(config(good_folder), tmp_path)
    assert "train-code.jsonl:4: duplicate id 'code-0', first seen at train-code.jsonl:1" in message


def test_all_offenders_at_once_ten_then_a_count(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-code.jsonl", ["broken"] * 25)
    write_lines("data/heldout-math.jsonl.gz", ["broken too"])
    message = message_of(config(good_folder), tmp_path)
    assert "26 problems" in message
    assert message.count("not JSON") == 10
    assert "and 16 more" in message


def test_domain_without_documents(good_folder: Path, tmp_path: Path) -> None:
    message = message_of(config(good_folder, domains=["code", "math", "safety"]), tmp_path)
    assert "pool.domains names safety, but no document has it; found: code, math" in message


def test_single_domain(write_lines: Write, tmp_path: Path) -> None:
    path = write_lines("data.jsonl", make_records("x", 20))
    message = message_of(config(path), tmp_path)
    assert "two domains or more; found data" in message
    assert "pool.domain_field='domain'" in message


def test_reference_slice_that_takes_or_leaves_all(good_folder: Path, tmp_path: Path) -> None:
    assert "leaves nothing to draw in code (20 documents)" in message_of(
        config(good_folder, reference_fraction=1.0), tmp_path
    )
    (tmp_path / "stage").rename(tmp_path / "before")
    assert "leaves the reference slice empty" in message_of(config(good_folder, reference_fraction=0.0), tmp_path)


def test_gzip_cut_short(good_folder: Path, tmp_path: Path) -> None:
    whole = (good_folder / "train-math.jsonl.gz").read_bytes()
    (good_folder / "train-math.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert "gzip stream is damaged or cut short" in message_of(config(good_folder), tmp_path)


def test_not_gzip_and_not_utf8(good_folder: Path, tmp_path: Path) -> None:
    (good_folder / "train-math.jsonl.gz").write_bytes(b"plain text")
    (good_folder / "train-code.jsonl").write_bytes(b'{"id": "\xff"}\n')
    message = message_of(config(good_folder), tmp_path)
    assert "train-math.jsonl.gz:1: the gzip stream is damaged" in message
    assert "train-code.jsonl:1: not UTF-8 (byte 0xff at 9 of the line; Latin-1" in message


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing else")
    assert "not a whole Parquet file" in message_of(config(tmp_path, source="parquet"), tmp_path)


def test_quality_is_checked_only_where_it_is_used(good_folder: Path, tmp_path: Path) -> None:
    cfg = config(good_folder)
    cfg.scores.rater.pairs = "quality"
    assert "'quality' is null; pool.scores.rater.pairs=quality needs a number" in message_of(cfg, tmp_path)


def test_split_text_takes_the_last_answer() -> None:
    turns = [*chat("q1", "a1"), *chat("q2", "a2"), {"role": "user", "content": "left open"}]
    assert split_text(parse_messages({"messages": turns})) == ("q1\na1\nq2", "a2")
    assert split_text(parse_messages({"messages": [{"role": "assistant", "content": "a"}]})) == ("", "a")


def test_null_input_is_part_of_the_format() -> None:
    messages = parse_messages({"instruction": "q", "input": None, "output": "a", "messages": None})
    assert messages[0].content == "q"
    with pytest.raises(BadRecordError, match="'input' is a int"):
        parse_messages({"instruction": "q", "input": 3, "output": "a"})


def test_blank_lines_are_no_documents(good_folder: Path, tmp_path: Path) -> None:
    path = good_folder / "train-math.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n\n" + gzip.decompress(path.read_bytes()) + b"\n"))
    assert build(config(good_folder), tmp_path)["counts"]["math"]["documents"] == 30


# --- encodings, characters, sizes ------------------------------------------------------------------------


def test_lines_of_other_encodings_are_named_with_a_guess(good_folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in make_records("code", 4)]
    lines[2] = lines[2].replace("Ask", "Café")
    content = b"\n".join(
        [lines[0].encode(), lines[1].encode(), lines[2].encode("latin-1"), lines[3].encode("utf-16"), b""]
    )
    (good_folder / "train-code.jsonl").write_bytes(content)
    message = message_of(config(good_folder), tmp_path)
    assert "train-code.jsonl:3: not UTF-8 (byte 0xe9 at " in message
    assert "Latin-1 or Windows-1252?" in message
    assert "train-code.jsonl:4: not UTF-8 (byte 0xff at 1 of the line; UTF-16?)" in message
    assert "iconv -f ... -t UTF-8" in message


def test_a_whole_file_in_utf16_is_named(good_folder: Path, tmp_path: Path) -> None:
    text = "\n".join(json.dumps(record) for record in make_records("code", 3))
    (good_folder / "train-code.jsonl").write_bytes(text.encode("utf-16"))
    assert "train-code.jsonl:1: not UTF-8 (byte 0xff at 1 of the line; UTF-16?)" in message_of(
        config(good_folder), tmp_path
    )


def test_a_byte_order_mark_is_no_text(good_folder: Path, tmp_path: Path) -> None:
    path = good_folder / "train-code.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert build(config(good_folder), tmp_path)["counts"]["code"]["documents"] == 20


def test_control_characters_stay_in_texts_and_out_of_names(
    good_folder: Path, write_lines: Write, tmp_path: Path
) -> None:
    records = make_records("code", 20)
    odd = "null \x00, escape \x1b[31m, bell \x07, tab \t, line \u2028 end"
    records[3]["messages"][1]["content"] = odd
    write_lines("data/train-code.jsonl", records)
    build(config(good_folder), tmp_path)
    stored = pq.read_table(tmp_path / "stage" / "documents.parquet").column("messages").to_pylist()
    assert odd in {turns[1]["content"] for turns in stored}
    (tmp_path / "stage").rename(tmp_path / "before")
    records[3]["id"], records[4]["id"] = "a\x1b[2Jb", "half \ud800"
    write_lines("data/train-code.jsonl", records)
    message = message_of(config(good_folder), tmp_path)
    assert "train-code.jsonl:4: 'id' is 'a\\x1b[2Jb'; a name has no control characters" in message
    assert "train-code.jsonl:5: 'id' is 'half \\ud800'" in message
    assert "\x1b" not in message


def test_raw_control_characters_are_not_json(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-code.jsonl", ['{"instruction": "a\x01b", "output": "c"}'])
    assert "train-code.jsonl:1: not JSON (Invalid control character" in message_of(config(good_folder), tmp_path)


def test_ids_that_repeat_across_files(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-more.jsonl", [{**record, "domain": "code"} for record in make_records("math", 2)])
    message = message_of(config(good_folder), tmp_path)
    assert "2 problems" in message
    assert "train-more.jsonl:1: duplicate id 'math-0', first seen at train-math.jsonl.gz:1" in message


def test_a_file_cut_short(good_folder: Path, tmp_path: Path) -> None:
    path = good_folder / "train-code.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert "train-code.jsonl:20: not JSON" in (message := message_of(config(good_folder), tmp_path))
    assert "the line has no end: was the file cut short?" in message


def test_a_line_without_end_is_not_held(
    good_folder: Path, write_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "LINE_BYTES", 500)
    lines: list[Any] = make_records("math", 3)
    lines[1]["messages"][0]["content"] = "0" * 5000
    write_lines("data/train-math.jsonl.gz", lines)
    message = message_of(config(good_folder), tmp_path)
    assert "1 problem." in message
    assert "train-math.jsonl.gz:2: the line is longer than" in message


def test_numbers_that_python_will_not_read(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    write_lines("data/train-code.jsonl", ['{"id": ' + "9" * 5000 + "}", "[" * 100_000])
    message = message_of(config(good_folder), tmp_path)
    assert "train-code.jsonl:1: not JSON (Exceeds the limit" in message
    assert "train-code.jsonl:2: not JSON" in message


def test_archives_are_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz").write_bytes(b"x")
    with pytest.raises(PoolError, match=r"found: data.tar.gz\). Archives are not read: unpack them"):
        find_sources(config(tmp_path))


def test_sharegpt_turns_are_read() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    messages = parse_messages({"system": "s", "conversations": turns})
    assert [(message.role, message.content) for message in messages] == [
        ("system", "s"),
        ("user", "q"),
        ("assistant", "a"),
    ]
    with pytest.raises(BadRecordError, match="role 'tool'; allowed are"):
        parse_messages({"conversations": [{"from": "tool", "value": "q"}]})
    with pytest.raises(BadRecordError, match="'conversations' is a str"):
        parse_messages({"conversations": "hello"})


@pytest.mark.slow
def test_a_document_of_fifty_megabytes(good_folder: Path, write_lines: Write, tmp_path: Path) -> None:
    records = make_records("code", 5)
    records[2]["messages"][1]["content"] = "seven eleven \n" * (50 * 2**20 // 14)
    write_lines("data/train-code.jsonl", records)
    cfg = config(good_folder, max_length=128, n_workers=1)
    cfg.tokenizer.vocab_size = 300
    root = tmp_path / "root"
    run_stage(root, "documents", lambda to: build_documents(to, cfg, find_sources(cfg), progress=False))
    run_stage(root, "tokenizer", lambda to: build_tokenizer(to, cfg, root))
    summary = run_stage(root, "tokens", lambda to: build_tokens(to, cfg, root, progress=False))
    assert summary["n_truncated"] == 1
    assert summary["lengths"]["code"]["max"] == 128
