"""The text of documents, against what the programs that wrote them were given."""

import sys

import docx
import pypdf
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hotlora.engine.errors import UserError
from hotlora.llm.documents import read_document
from office_files import write_pdf


def test_a_word_file_gives_its_paragraphs_and_tables_in_order(tmp_path):
    document = docx.Document()
    document.add_heading("Öffnungszeiten", 1)
    document.add_paragraph("Wir öffnen um ").add_run("neun").bold = True
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([cell for row in table.rows for cell in row.cells], ("Tag", "Zeit", "Montag", "9–17"), strict=True):
        cell.text = text
    document.add_paragraph("Ende\tgut")
    document.save(path := tmp_path / "zeiten ä.docx")
    assert read_document(path) == "Öffnungszeiten\nWir öffnen um neun\nTag\tZeit\nMontag\t9–17\nEnde\tgut"


def test_tracked_insertions_are_read_and_deletions_are_not(tmp_path):
    document = docx.Document()
    paragraph = document.add_paragraph("The shop opens at ")
    for kind, tag, text in (("del", "delText", "eight"), ("ins", "t", "nine")):
        run = f"<w:{kind} {nsdecls('w')} w:id='1' w:author='A'><w:r><w:{tag}>{text}</w:{tag}></w:r></w:{kind}>"
        paragraph._p.append(parse_xml(run))
    document.save(path := tmp_path / "a.docx")
    assert read_document(path) == "The shop opens at nine"


def test_a_pdf_gives_its_pages_without_what_stands_on_each_and_with_parted_words_joined(tmp_path):
    pages = [
        ["Handbook 2026", f"Chapter {n} is about care-", "fully written texts,", "well-", "known ones. A well-known one.", f"Page {n}"]
        for n in (1, 2, 3)
    ]
    text = read_document(write_pdf(tmp_path / "a.pdf", pages))
    assert text.splitlines() == [f"Chapter {n} is about carefully written texts, well-known ones. A well-known one." for n in (1, 2, 3)]


def test_text_of_other_kinds(tmp_path):
    (tmp_path / "a.txt").write_bytes("Größe und Maß, schöne Grüße aus Köln. Wir hätten gern fünf Äpfel für die Küche.".encode("cp1252"))
    (tmp_path / "b.md").write_text("# Title\n\nText.", encoding="utf-8")
    page = "<html><head><title>T</title><style>p {}</style></head><body><h1>One</h1><p>A &amp;\nB<script>x()</script></p></body></html>"
    (tmp_path / "c.html").write_text(page, encoding="utf-8")
    assert read_document(tmp_path / "a.txt").startswith("Größe und Maß")
    assert read_document(tmp_path / "b.md") == "# Title\n\nText."
    assert read_document(tmp_path / "c.html") == "One\nA & B"


def _encrypt(path):
    writer = pypdf.PdfWriter(clone_from=path)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(path)


def test_what_cannot_be_read_says_what_to_do(tmp_path):
    write_pdf(tmp_path / "scan.pdf", [[], []])
    _encrypt(write_pdf(tmp_path / "locked.pdf", [["Text"]]))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 nothing")
    docx.Document().save(tmp_path / "empty.docx")
    (tmp_path / "old.doc").write_bytes(b"x")
    said = {
        "scan.pdf": "OCR",
        "locked.pdf": "password",
        "broken.pdf": "no sound PDF",
        "locked.docx": "password",
        "broken.docx": "damaged",
        "empty.docx": "no text",
        "old.doc": "Save it as one of these",
        "gone.txt": "Check the path",
    }
    for name, told in said.items():
        with pytest.raises(UserError, match=told):
            read_document(tmp_path / name)


def test_without_pypdf_one_sentence_says_how_to_add_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(UserError, match="the package pypdf, which is missing. Copy its text .* -m pip install --no-deps pypdf"):
        read_document(write_pdf(tmp_path / "a.pdf", [["Text"]]))
