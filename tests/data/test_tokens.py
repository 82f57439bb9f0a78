import json
import sys
from pathlib import Path

import pytest
from data_sources import Input
from paretoscope.base.errors import CompressionError, DataError
from paretoscope.data import library
from paretoscope.data.data import Part
from paretoscope.data.prepared import prepare
from paretoscope.data.preprocess import Preprocess
from paretoscope.data.tokens import add_tokenizer, numbered, tokenizer

WORDS = {"[UNK]": 0, "[PAD]": 1, "the": 2, "cat": 3, "sat": 4}
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
}


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))


def test_bytes_are_cut_and_padded() -> None:
    assert numbered(["ab", "", "grüße"], 4, 9, "").tolist() == [
        [97, 98, 9, 9],
        [9, 9, 9, 9],
        list("grüße".encode()[:4]),
    ]


def test_texts_are_fed_as_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"text {place}" for place in range(10)))
    data = prepare(
        library.add("a", str(tmp_path / "a.txt")).samples, [Input("t", (8,), "int64")], Preprocess(padding=3)
    )
    (chunk,) = data.samples(Part.TEST)
    wanted = [[*f"text {place}".encode(), 3, 3] for place in data.split.test]
    assert chunk.tolist() == wanted
    with pytest.raises(DataError, match="texts need an input of whole numbers"):
        prepare(library.open("a"), [Input("t", (8,))])


def test_a_tokenizer_is_kept_by_its_content(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "p.json").write_text('{"tokenizer": "tokenizer.json", "padding": 1}')
    made = Preprocess.from_file(tmp_path / "p.json")
    (tmp_path / "tokenizer.json").unlink()
    assert numbered(["The cat", "dog sat the cat"], 3, 1, made.tokenizer).tolist() == [[2, 3, 1], [0, 4, 2]]


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    for content in (b"", b"{}", b"\xff", json.dumps(TOKENIZER).encode()[:-40]):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DataError, match=r"must be a tokenizer\.json"):
            add_tokenizer(tmp_path / "bad.json")
    with pytest.raises(CompressionError):
        add_tokenizer(tmp_path / "none.json")


def test_without_the_package_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match="pip install tokenizers"):
        add_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match="Add its"):
        tokenizer("0" * 64)
