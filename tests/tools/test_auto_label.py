"""auto_label: every picture gets a caption, nobody's caption is touched, and the BLIP path is the real one, in batches."""

import csv
import json
from pathlib import Path

import auto_label
import pytest
import torch
from hotlora.cli import label
from hotlora.pictures.caption_files import MetadataCaptions
from hotlora.pictures.labels import sentence_from_name
from PIL import Image

WORDS = ["a", "photo", "of", "red", "green", "blue", "apple", "dog", "cat", "house", "on", "the", "table"]


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    """A BLIP with random weights, saved as a folder such as people download."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_blip import BlipImageProcessor

    folder = tmp_path_factory.mktemp("tiny blip")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]), encoding="utf-8")
    tokenizer = BertTokenizer(str(vocabulary), bos_token="[DEC]")
    text = dict(vocab_size=len(tokenizer), hidden_size=32, encoder_hidden_size=32, intermediate_size=37, projection_dim=32)
    text |= dict(num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
    text |= dict(bos_token_id=5, pad_token_id=0, sep_token_id=3, eos_token_id=3)
    vision = dict(hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    torch.manual_seed(0)
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder with spaces and non-ASCII names, one picture in a sub-folder."""
    root = tmp_path / "my pictures"
    for number, name in enumerate(["red apple.png", "Füchslein.png", "猫/白い猫.png", "IMG_0001.jpg"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 30), (60 * number, 200, 30)).save(root / name)
    return root


def run(root: Path, *options: str) -> int:
    return auto_label.main(["--input", str(root), *options])


def run_without_model(root: Path, *options: str) -> int:
    return run(root, "--model", str(root / "no model here"), *options)


def read_csv(path: Path) -> dict[str, str]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["filename"]: row["prompt"] for row in csv.DictReader(file)}


def test_real_blip_captions_every_picture_in_batches(pictures, blip_folder, monkeypatch, capsys):
    from transformers import BlipForConditionalGeneration

    sizes, generate = [], BlipForConditionalGeneration.generate

    def counted(self, *args, **kwargs):
        sizes.append(len(kwargs["pixel_values"]))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", counted)
    assert run(pictures, "--model", str(blip_folder), "--batch-size", "3") == 0
    assert sizes == [3, 1]
    captions = read_csv(pictures / "metadata.csv")
    assert set(captions) == {"red apple.png", "Füchslein.png", "猫/白い猫.png", "IMG_0001.jpg"}
    assert all(set(caption.split()) <= {*WORDS, "[UNK]"} for caption in captions.values()), captions
    assert "cannot load" not in capsys.readouterr().err


def test_blip_caption_is_that_of_the_plain_transformers_calls(pictures, blip_folder):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    run(pictures, "--model", str(blip_folder), "--batch-size", "4", "--trigger", "mystyle", "--prefix", "a drawing of")
    processor = BlipProcessor.from_pretrained(blip_folder)
    model = BlipForConditionalGeneration.from_pretrained(blip_folder).eval()
    inputs = processor(images=Image.open(pictures / "red apple.png"), return_tensors="pt")
    with torch.no_grad():
        expected = processor.decode(model.generate(**inputs, max_new_tokens=40)[0], skip_special_tokens=True)
    assert read_csv(pictures / "metadata.csv")["red apple.png"].split() == f"mystyle, a drawing of {expected}".split()


def test_without_model_a_sentence_from_the_name(pictures, capsys):
    assert run_without_model(pictures) == 0
    assert read_csv(pictures / "metadata.csv") == {
        "red apple.png": "a picture of red apple",
        "Füchslein.png": "a picture of Füchslein",
        "猫/白い猫.png": "a picture of 白い猫",
        "IMG_0001.jpg": "a picture of my pictures",
    }
    notes = capsys.readouterr().err
    assert notes.count("cannot load the captioning model") == 1 and "Traceback" not in notes


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("animals/red-apple_02.png", "a picture of red apple"),
        ("12_grey cat/DSC00042.jpg", "a picture of grey cat"),
        ("2024/3f2a9c1b.png", "a picture"),
    ],
)
def test_sentence_says_only_what_the_name_says(path, sentence):
    assert sentence_from_name(Path("/data") / path) == sentence


def test_the_file_is_what_training_reads(pictures):
    run_without_model(pictures, "--trigger", "sks")
    captions = MetadataCaptions()
    captions.read(pictures / "metadata.csv")
    assert captions.problems == []
    assert captions.find(pictures / "猫" / "白い猫.png").caption == "sks, a picture of 白い猫"


def test_peoples_captions_are_kept_wherever_they_are(pictures):
    beside = pictures / "Füchslein.txt"
    beside.write_text("a fox, by me", encoding="utf-8")
    (pictures / "猫" / "metadata.jsonl").write_text('{"file_name": "白い猫.png", "text": "my cat"}\n', encoding="utf-8")
    own_lines = 'filename,prompt\n"red apple.png", an apple, on a table\n'  # commas that nobody quoted, odd spaces
    (pictures / "metadata.csv").write_text(own_lines, encoding="utf-8")
    for mode in ("--missing-only", "--no-missing-only", "--overwrite-machine"):
        assert run_without_model(pictures, mode) == 0
        text = (pictures / "metadata.csv").read_text(encoding="utf-8")
        assert text == own_lines + "IMG_0001.jpg,a picture of my pictures\n"
    assert beside.read_text(encoding="utf-8") == "a fox, by me"


def test_missing_only_leaves_earlier_labels_and_overwrite_redoes_only_those(pictures, blip_folder):
    run_without_model(pictures)
    path = pictures / "metadata.csv"
    first = read_csv(path)
    run(pictures, "--model", str(blip_folder))
    assert read_csv(path) == first

    corrected = path.read_text(encoding="utf-8").replace("a picture of red apple", "one shiny red apple")
    path.write_text(corrected, encoding="utf-8")
    run(pictures, "--model", str(blip_folder), "--overwrite-machine")
    again = read_csv(path)
    assert again.pop("red apple.png") == "one shiny red apple"
    assert len(again) == 3 and all(caption != first[name] for name, caption in again.items())


def test_a_caption_that_a_person_adds_later_wins(pictures):
    run_without_model(pictures)
    (pictures / "red apple.txt").write_text("grandmother's apple", encoding="utf-8")
    run_without_model(pictures)
    assert "red apple.png" not in read_csv(pictures / "metadata.csv")


def test_an_empty_caption_counts_as_missing(pictures):
    (pictures / "metadata.csv").write_text("filename,prompt\nred apple.png,\n", encoding="utf-8")
    run_without_model(pictures)
    assert read_csv(pictures / "metadata.csv")["red apple.png"] == "a picture of red apple"


def test_a_kill_loses_at_most_a_batch(pictures, monkeypatch, capsys):
    calls = []

    def killed_in_the_second_batch(pictures, images):
        calls.append(pictures)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ["fine"] * len(pictures)

    monkeypatch.setattr(label, "load_captioner", lambda model: killed_in_the_second_batch)
    assert run(pictures, "--batch-size", "2") == 130
    assert list(read_csv(pictures / "metadata.csv").values()) == ["fine", "fine"]
    assert run(pictures, "--batch-size", "2") == 0
    assert [len(batch) for batch in calls] == [2, 2, 2]
    assert len(read_csv(pictures / "metadata.csv")) == 4
    assert not list(pictures.rglob("*.tmp"))


def test_broken_pictures_are_listed_and_skipped(pictures, capsys):
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    assert run_without_model(pictures) == 0
    assert "broken.png" in capsys.readouterr().err
    assert len(read_csv(pictures / "metadata.csv")) == 4


def test_output_elsewhere_names_pictures_so_that_training_finds_them(pictures, tmp_path):
    for output in (tmp_path / "all.csv", tmp_path / "labels" / "all.csv"):
        assert run_without_model(pictures, "--output", str(output)) == 0
        captions = MetadataCaptions()
        captions.read(output, pictures)
        assert captions.problems == [] and captions.find(pictures / "red apple.png")
        assert "\\" not in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.mkdir(), lambda root: root.write_text("x")])
def test_unusable_folder_is_one_sentence_and_exit_code_2(tmp_path, capsys, make):
    root = tmp_path / "elsewhere"
    make(root)
    assert run(root) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: cannot") and str(root) in message and "Traceback" not in message


def test_a_csv_with_other_columns_is_not_touched(pictures, capsys):
    path = pictures / "metadata.csv"
    path.write_text("picture;words\nred apple.png;mine\n", encoding="utf-8")
    assert run_without_model(pictures) == 2
    assert path.read_text(encoding="utf-8") == "picture;words\nred apple.png;mine\n"
    assert "filename,prompt" in capsys.readouterr().err


def test_the_record_of_machine_captions_may_be_lost(pictures, blip_folder):
    run_without_model(pictures)
    first = read_csv(pictures / "metadata.csv")
    record = pictures / "metadata.auto.json"
    assert json.loads(record.read_text(encoding="utf-8")) == first
    record.write_text("{", encoding="utf-8")
    run(pictures, "--model", str(blip_folder), "--overwrite-machine")
    assert read_csv(pictures / "metadata.csv") == first
