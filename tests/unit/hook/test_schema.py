"""The wire form of hooks in other languages: docs/hook.schema.json says what the code writes and takes."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import AttemptFailed
from watcher.hook import schema
from watcher.report.listing import TASK_COLUMNS
from watcher.task import Later, Skip
from watcher.testing import make_task

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "hook.schema.json").read_text())
LIMIT_BYTES = 64


def schema_of(part: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{part}", "$defs": DOCUMENT["$defs"]})


def read(**fields: Any) -> schema.Reply:
    return schema.read_reply(json.dumps({"id": "7"} | fields).encode(), "7", LIMIT_BYTES)


TASK = replace(
    make_task(
        b"\x01\xff", fields={"owner": b"\x02" * 20, "amounts": (2**255, -1), "ok": True, "name": '"message":"0x00"'}
    ),
    deadline_s=1_700_000_000,
)


@pytest.mark.parametrize("task", [TASK, make_task(), make_task(deadline_block=None)])
def test_request_follows_the_schema(task: Any) -> None:
    line = schema.write_request("7", task)
    assert b"\n" not in line
    request = json.loads(line)
    jsonschema.Draft202012Validator(DOCUMENT).validate(request)
    assert request["task"].keys() == set(DOCUMENT["$defs"]["task"]["properties"])


def test_request_uses_the_names_of_the_listing() -> None:
    renamed = {"created_block": "task_created_block", "deadline_s": "deadline_at"}
    listed = {renamed.get(name, name) for name in TASK_COLUMNS}
    assert schema.task_form(TASK).keys() - listed == {"log_index", "fields"}


def test_request_writes_numbers_that_every_language_can_read() -> None:
    fields = schema.task_form(TASK)["fields"]
    assert fields == {"owner": "0x" + "02" * 20, "amounts": [str(2**255), "-1"], "ok": True, "name": '"message":"0x00"'}
    assert schema.task_form(TASK)["deadline_at"] == "2023-11-14T22:13:20.000Z"


GOOD = [
    ({"verdict": "answer", "response": "0x01fF"}, b"\x01\xff"),
    ({"verdict": "answer", "response": "0x", "version": 1}, b""),
    ({"verdict": "skip"}, Skip()),
    ({"verdict": "skip", "reason": "not ours", "unknown": [1]}, Skip("not ours")),
    ({"verdict": "later", "blocks": 2}, Later(blocks=2)),
    ({"verdict": "later", "seconds": 1.5, "reason": "soon"}, Later(seconds=1.5, reason="soon")),
]
BAD = [
    ({}, '"verdict" .* not one of answer, skip'),
    ({"verdict": "Answer", "response": "0x"}, "not one of"),
    ({"verdict": ["answer"], "response": "0x"}, "not one of"),
    ({"verdict": "answer"}, "begins with 0x"),
    ({"verdict": "answer", "response": "01"}, "begins with 0x"),
    ({"verdict": "answer", "response": "0x1"}, "two hex digits"),
    ({"verdict": "answer", "response": "0x01 02"}, "two hex digits"),
    ({"verdict": "answer", "response": 1}, "begins with 0x"),
    ({"verdict": "skip", "reason": 7}, '"reason" .* not text'),
    ({"verdict": "later"}, "does not say when"),
    ({"verdict": "later", "blocks": True}, "whole number"),
    ({"verdict": "later", "blocks": "2"}, "whole number"),
    ({"verdict": "later", "seconds": -1}, "finite number"),
    ({"verdict": "failed", "reason": "no \x1b[31m price"}, r"the hook failed: no \\x1b\[31m price"),
    ({"verdict": "failed"}, "gives no reason"),
    ({"verdict": "skip", "version": 2}, "another version"),
    ({"verdict": "skip", "version": True}, "another version"),
    ({"verdict": "skip", "hook_version": 3}, '"hook_version" .* not text'),
]


@pytest.mark.parametrize(("fields", "answer"), GOOD)
def test_reply_that_follows_the_schema_is_taken(fields: dict[str, Any], answer: object) -> None:
    schema_of("reply").validate({"id": "7", **fields})
    assert read(**fields).answer == answer


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_reply_that_breaks_the_contract_fails_the_run(fields: dict[str, Any], message: str) -> None:
    assert fields.get("verdict") == "failed" or not schema_of("reply").is_valid({"id": "7", **fields})
    with pytest.raises(AttemptFailed, match=message) as caught:
        read(**fields)
    assert not isinstance(caught.value, schema.BrokenReply)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[1]",
        b"7",
        b"\xff",
        b"[" * 9999,
        b'{"id":"7","verdict":"skip","x":[' + b"[]," * 10_000 + b"0]}",
        b'{"verdict":"skip"}',
        b'{"id":"8","verdict":"skip"}',
        b'{"id":7,"verdict":"skip"}',
    ],
)
def test_reply_to_no_request_is_broken(body: bytes) -> None:
    with pytest.raises(schema.BrokenReply):
        schema.read_reply(body, "7", LIMIT_BYTES)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>", "Expecting value at character 1"),
        (b'{"id":"7"} {"id":"7"}', "Extra data at character 12"),
        (b'{"id":"7\xff"}', "byte 9 is not UTF-8"),
        (b'\xef\xbb\xbf{"id":"7"}', "Unexpected UTF-8 BOM"),
        (b'{"id":"7","verdict":"later","seconds":NaN}', "NaN is no number of JSON"),
        (b'{"id":"7","x":' + b"[" * 99 + b"]" * 99 + b"}", "nested too deep"),
        (b'{"id":"7","verdict":"answer","response":"0x01","response":"0x02"}', "a name is there twice"),
        (b'{"id":"7","verdict":"answer","response":{"a":"1","a":"2"}}', "a name is there twice"),
        (b'{"id":"7","verdict":"later","blocks":' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_reply_that_is_no_json_is_broken_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(schema.BrokenReply, match="is not JSON: ") as caught:
        schema.read_reply(body, "7", LIMIT_BYTES)
    assert reason in str(caught.value)


def test_reply_names_the_version_of_its_code_safely() -> None:
    assert read(verdict="skip", hook_version="1.2\x1b").code_version == "1.2\\x1b"
    assert len(read(verdict="skip", hook_version="x" * 9999).code_version) < 110


def test_answer_has_a_limit() -> None:
    with pytest.raises(AttemptFailed, match="the limit is 64"):
        read(verdict="answer", response="0x" + "00" * 65)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda s: st.lists(s) | st.dictionaries(st.text(), s),
)
names = st.sampled_from(["id", "verdict", "response", "reason", "blocks", "seconds", "version", "hook_version"])


@given(st.dictionaries(names, json_values | st.sampled_from(["7", *schema.VERDICTS])) | json_values)
def test_any_reply_is_a_verdict_or_a_failed_run(fields: Any) -> None:
    with contextlib.suppress(AttemptFailed):
        reply = schema.read_reply(json.dumps(fields).encode(), "7", LIMIT_BYTES)
        assert isinstance(reply.answer, bytes | Skip | Later)


@given(st.binary())
def test_any_bytes_are_a_verdict_or_a_failed_run(body: bytes) -> None:
    with pytest.raises(AttemptFailed):
        schema.read_reply(body, "7", LIMIT_BYTES)
