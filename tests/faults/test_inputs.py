"""Whatever people, other programs and strangers hand in, through every door: a result, or one sentence; never anything else."""

import json
import string
import struct
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

import torch
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.engine.errors import UserError
from hotlora.engine.events import Event, EventLog, parse_event
from hotlora.engine.history import History
from hotlora.engine.options import as_plain, build, options_of
from hotlora.engine.recipe import choose_task, read_options, read_override
from hotlora.engine.yaml_file import read_yaml
from hotlora.pictures.caption_files import METADATA_NAMES, MetadataCaptions, read_caption_beside
from hotlora.pictures.captions import render_caption
from hotlora.pictures.prompts import read_prompt
from hotlora.pictures.reading import check_picture, decode_picture
from hotlora.sd.config import ImageConfig
from hotlora.tasks import TASKS
from hotlora.ui.api import build_router
from hotlora.ui.datasets import add_to_data_set
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from tally import FULL, counting, scaled
from test_kills import HAS_TEXT
from toy_studio import toy_studio

HOLDS = "a result or one sentence, nothing else"
KINDS = {name: task.config_class for name, task in TASKS.items()}

odd_texts = st.sampled_from(
    ["\x00", "\ud800", "~", "~nobody/x", "..", "/", "\\", "a" * 300, "💥", "nan", "1e999", "9" * 400, "{}", "C:\\con", "\u202e"]
)
texts = st.one_of(st.text(max_size=60), odd_texts, st.text(string.printable, max_size=80))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.integers(-3, 3))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)), max_leaves=8
)
names = {kind: sorted(options_of(kind)) for kind in KINDS.values()}


def inputs(*strategies):
    """So many inputs of each reader as this form of the harness takes; in the short form always the same ones."""
    many = settings(
        max_examples=scaled(25, 900),
        deadline=None,
        database=None,
        derandomize=not FULL,
        suppress_health_check=list(HealthCheck),
        print_blob=FULL,
    )
    return lambda test: many(given(*strategies)(test))


def as_sentence(work, *arguments):
    """The result, or None where it was refused with a sentence."""
    try:
        return work(*arguments)
    except UserError as error:
        sentence = str(error)
        assert sentence and "Traceback" not in sentence and len(sentence) < 40_000
        return None


def feed(what, strategy, work):
    """Hand in many of them."""
    with counting(f"generated inputs: {what}", HOLDS) as tally:

        @inputs(strategy)
        def each(given_value):
            with tally.trial(repr(given_value)[:200]):
                as_sentence(work, given_value)

        each()


def mangled(good: list[bytes]):
    """Files that are nearly right: with bytes changed, cut out, doubled, or put in from another."""

    @st.composite
    def make(draw):
        data = bytearray(draw(st.sampled_from(good)))
        for _ in range(draw(st.integers(0, 4))):
            place = draw(st.integers(0, max(len(data) - 1, 0)))
            way = draw(st.sampled_from(["set", "cut", "double", "insert", "end"]))
            if way == "set" and data:
                data[place] = draw(st.integers(0, 255))
            elif way == "cut":
                del data[place : place + draw(st.integers(1, 20))]
            elif way == "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            elif way == "insert":
                data[place:place] = draw(st.binary(max_size=8))
            else:
                del data[place:]
        return bytes(data)

    return make() | st.binary(max_size=200)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_options(kind):
    pairs = st.dictionaries(st.one_of(st.sampled_from(names[kind]), texts), values, max_size=6)
    feed("options", pairs, lambda pairs: as_plain(build(kind, pairs)))


def test_files_of_options(tmp_path):
    good = [
        b"lora_rank: 16\nsample_prompts: [a, 'b c']\n",
        b"task_type: text-generation\nlearning_rate: 1e-4\n",
        "trigger_word: 猫\n".encode(),
    ]
    path = tmp_path / "run.yaml"

    def read(data):
        path.write_bytes(data)
        read_yaml(path)
        read_options(KINDS, path)

    feed("files of options", mangled(good), read)
    dumped = st.dictionaries(st.sampled_from(names[ImageConfig]), values, max_size=5).map(
        lambda pairs: yaml.dump(pairs, allow_unicode=True)
    )
    feed("files of options", dumped.map(lambda text: text.encode("utf-8", "surrogatepass")), read)


def test_single_options():
    overrides = st.builds("{}={}".format, st.one_of(texts, st.sampled_from(names[ImageConfig])), texts) | texts
    feed("options on the command line", overrides, lambda text: build(ImageConfig, dict([read_override(text)])))
    feed("options on the command line", values, lambda task: choose_task({"task_type": task}, KINDS))


def test_recipes_of_other_trainers(tmp_path):
    from hotlora.sd.recipes import kohya, onetrainer
    from hotlora.sd.recipes.files import convert_file

    words = set()
    for module in (kohya, onetrainer):
        words |= {word for word in Path(module.__file__).read_text(encoding="utf-8").split('"')[1::2] if word.isidentifier()}
    content = st.dictionaries(st.sampled_from(sorted(words)), values, max_size=8)

    def read(pairs):
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(pairs), encoding="utf-8")
        convert_file(path, ImageConfig)

    feed("recipes of other trainers", content, read)
    toml = [
        b'[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "a"\nnum_repeats = 3\n',
        b'pretrained_model_name_or_path = "a"\n',
    ]

    def read_toml(data):
        path = tmp_path / "recipe.toml"
        path.write_bytes(data)
        convert_file(path, ImageConfig)

    feed("recipes of other trainers", mangled(toml), read_toml)


# -- captions and prompts ----------------------------------------------------------------------------------------------


def test_prompts_and_captions():
    config = build(ImageConfig, {"train_data_dir": "x"})
    options = st.lists(st.tuples(st.sampled_from([*"nwhdlsqx"]), texts), max_size=3)
    lines = st.builds(lambda text, pairs: text + "".join(f" --{letter} {value}" for letter, value in pairs), texts, options)
    feed("prompts", lines, lambda line: read_prompt(line, config, 0))
    import random

    wild = build(
        ImageConfig, {"enable_wildcard": True, "shuffle_caption": True, "caption_tag_dropout_rate": 0.3, "keep_tokens_separator": "|||"}
    )
    braces = st.text("{}|, ab\n", max_size=40)
    feed("captions", st.one_of(texts, braces), lambda caption: render_caption(caption, wild, random.Random(0)))


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.json"])
def test_caption_files(tmp_path, name):
    assert name in METADATA_NAMES
    (tmp_path / "a.png").write_bytes(b"")
    good = {
        "metadata.csv": [
            b"filename,prompt\na.png,a cat\n",
            b'"file_name";text\r\n"a.png";"x ""y"""\r\n',
            "filename,prompt\nä.png,ü\n".encode("utf-16"),
        ],
        "metadata.jsonl": [b'{"file_name": "a.png", "text": "a cat"}\n{"file_name": "b.png", "text": ""}\n'],
        "metadata.json": [b'{"a": {"caption": "a cat", "tags": "x"}}', b'[{"image": "a.png", "caption": "x"}]'],
    }[name]

    def read(data):
        (tmp_path / name).write_bytes(data)
        captions = MetadataCaptions([tmp_path])
        captions.read(tmp_path / name)
        captions.find(tmp_path / "a.png")

    feed("files of captions", mangled(good), read)
    if name != "metadata.csv":
        feed("files of captions", values.map(lambda value: json.dumps(value).encode()), read)

    def read_beside(data):
        (tmp_path / "a.txt").write_bytes(data)
        read_caption_beside(tmp_path / "a.png", ["a.txt", "a.png"])

    feed("files of captions", mangled([b"a cat, tree", "Å\n".encode("utf-16")]), read_beside)


def test_pictures(tmp_path):
    import io

    from PIL import Image

    good = []
    for suffix, mode in (
        ("png", "RGBA"),
        ("png", "I;16"),
        ("jpeg", "RGB"),
        ("webp", "RGB"),
        ("gif", "P"),
        ("bmp", "RGB"),
        ("tiff", "CMYK"),
    ):
        buffer = io.BytesIO()
        Image.new(mode, (9, 7)).save(buffer, suffix)
        good.append(buffer.getvalue())

    def read(data):
        check_picture(data, tmp_path / "a.png")
        decode_picture(data, tmp_path / "a.png")

    feed("pictures", mangled(good), read)


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_TEXT, reason="text runs need a newer transformers")
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".txt", ".md"])
def test_text_files(tmp_path, suffix):
    from hotlora.llm.config import TextConfig
    from hotlora.llm.formats import read_texts

    good = {
        ".json": [
            b'[{"instruction": "a", "input": "", "output": "b"}]',
            b'{"train": [{"q": "a", "a": "b"}], "test": [{"q": "a", "a": "b"}]}',
        ],
        ".jsonl": [b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"text": "c"}\n'],
        ".csv": [b"question,answer\na,b\n", b'sep=;\nprompt;completion\n"a;b";c\n', "instruction,output\né,ß\n".encode("cp1252")],
        ".tsv": [b"question\tanswer\na\tb\n"],
        ".txt": [b"Q: a\nA: b\n\nQ: c\nA: d\n", b"Once upon a time.\n\nAnd then.\n", "öäü".encode("utf-16")],
        ".md": [b"# a\n\nb\n"],
    }[suffix]
    config = build(TextConfig, {"train_data_dir": "data", "on_bad_data": "skip"})
    path = tmp_path / f"facts{suffix}"

    def read(data):
        path.write_bytes(data)
        read_texts(path, config)

    feed("files of texts", mangled(good), read)
    if suffix in (".json", ".jsonl"):
        words = st.sampled_from(
            [
                "messages",
                "conversations",
                "role",
                "from",
                "content",
                "value",
                "text",
                "instruction",
                "output",
                "input",
                "question",
                "answer",
                "system",
            ]
        )
        rows = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=10)
        feed("files of texts", rows.map(lambda row: json.dumps(row).encode()), read)


# -- files of tensors --------------------------------------------------------------------------------------------------


def headers():
    """safetensors files whose header says nearly the right thing."""
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "X9", ""]) | values,
            "shape": st.lists(st.integers(-1, 5), max_size=4) | values,
            "data_offsets": st.lists(st.integers(-1, 100), min_size=2, max_size=2) | values,
        },
    )
    layer = st.sampled_from(
        ["lora_unet_x", "lora_te_y", "model.diffusion_model.z", "base_model.model.q_proj", "unet.a", "", "__metadata__"]
    )
    tensor = st.sampled_from(
        ["lora_down.weight", "lora_up.weight", "alpha", "lora_A.weight", "lora_B.weight", "dora_scale", "hada_w1_a", "lokr_w1"]
    )
    key = st.builds("{}.{}".format, layer, tensor) | layer | texts
    header = st.dictionaries(key, entry | values, max_size=4)
    return st.builds(
        lambda content, data, off: struct.pack("<Q", max(0, len(json.dumps(content)) + off)) + json.dumps(content).encode() + data,
        header,
        st.binary(max_size=120),
        st.sampled_from([0, 0, 0, 1, -1, 1000, 2**40]),
    )


def lora_files():
    """Whole files with tensors that nearly fit."""
    layer = st.sampled_from(["lora_unet_down_blocks_0_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1", "bundle_emb.x"])
    tensor = st.sampled_from(
        [
            "lora_down.weight",
            "lora_up.weight",
            "alpha",
            "lora_mid.weight",
            "dora_scale",
            "hada_w1_a",
            "hada_w1_b",
            "hada_w2_a",
            "lokr_w1",
            "lokr_w2_a",
            "diff",
        ]
    )
    dtype = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])
    made = st.builds(lambda shape, kind: torch.ones(shape, dtype=kind), st.lists(st.integers(0, 3), max_size=4), dtype)
    metadata = st.dictionaries(
        st.sampled_from(["ss_network_module", "ss_network_args", "ss_v2", "lora_adapter_metadata"]), texts.map(str), max_size=2
    )
    metadata = metadata.map(lambda pairs: {key: value.encode("utf-8", "ignore").decode() for key, value in pairs.items()})
    tensors = st.dictionaries(st.builds("{}.{}".format, layer, tensor), made, max_size=6)
    return st.builds(lambda parts, notes: save(parts, notes), tensors, metadata)


GOOD_LORA = save(
    {
        "lora_unet_x.lora_down.weight": torch.ones(2, 3),
        "lora_unet_x.lora_up.weight": torch.ones(3, 2),
        "lora_unet_x.alpha": torch.tensor(2.0),
    }
)


def test_image_adapters(tmp_path):
    from hotlora.sd.lora_files import read_lora

    path = tmp_path / "a.safetensors"

    def read(data):
        path.write_bytes(data)
        read_lora(path)

    for strategy in (headers(), lora_files(), mangled([GOOD_LORA])):
        feed("image adapters", strategy, read)


def test_checkpoints(tmp_path):
    from hotlora.hosts.shared.tensor_file import list_weight_files, open_tensor_file
    from hotlora.hosts.standalone.checkpoints.recognising import describe

    path = tmp_path / "a.safetensors"

    def read(data):
        path.write_bytes(data)
        file = open_tensor_file(path)
        for name in file.shapes:
            file.get(name)
        describe(path)

    feed("checkpoints", headers(), read)
    feed("checkpoints", mangled([GOOD_LORA]), read)
    old = tmp_path / "b.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}}, old)
    saved = old.read_bytes()

    def read_old(data):
        old.write_bytes(data)
        open_tensor_file(old)

    feed("checkpoints", mangled([saved]), read_old)
    folder = tmp_path / "folder"
    folder.mkdir()

    def read_index(value):
        (folder / "model.safetensors.index.json").write_text(json.dumps(value), encoding="utf-8")
        list_weight_files(folder)

    shards = st.fixed_dictionaries(
        {}, optional={"weight_map": st.dictionaries(texts, st.just("a.safetensors") | values, max_size=3) | values}
    )
    feed("checkpoints", shards | values, read_index)


@pytest.mark.skipif(not HAS_TEXT, reason="text runs need a newer transformers")
def test_text_adapters_and_models(tmp_path):
    from hotlora.hosts.standalone.model_folder import check_model_folder
    from hotlora.llm.peft_reading import read_peft_folder

    good = {f"base_model.model.q_proj.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    (tmp_path / "adapter_model.safetensors").write_bytes(save(good))
    settings_of = st.dictionaries(
        st.sampled_from(
            [
                "r",
                "lora_alpha",
                "peft_type",
                "bias",
                "target_modules",
                "rank_pattern",
                "alpha_pattern",
                "use_rslora",
                "use_dora",
                "init_lora_weights",
            ]
        ),
        values,
        max_size=5,
    )

    def read_settings(pairs):
        (tmp_path / "adapter_config.json").write_text(json.dumps(pairs), encoding="utf-8")
        read_peft_folder(tmp_path)

    feed("text adapters", settings_of, read_settings)
    feed("text adapters", values, read_settings)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "peft_type": "LORA"}), encoding="utf-8")

    def read_weights(data):
        (tmp_path / "adapter_model.safetensors").write_bytes(data)
        read_peft_folder(tmp_path)

    feed("text adapters", headers() | mangled([save(good)]), read_weights)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(save(good))
    words = "architectures model_type auto_map quantization_config torch_dtype vocab_size vision_config text_config is_encoder_decoder"

    def read_model(pairs):
        (model / "config.json").write_text(json.dumps(pairs), encoding="utf-8")
        check_model_folder(model)

    feed("language models' folders", st.dictionaries(st.sampled_from(words.split()), values, max_size=5) | values, read_model)


# -- what a run has written, and what strangers send -------------------------------------------------------------------


def test_event_lines(tmp_path):
    good = [json.dumps({"type": "Step", "time": 1.0, "step": 3, "epoch": 0.5, "loss": 0.1, "average": 0.1, "learning_rate": 1e-4}).encode()]
    feed("lines of events", mangled(good).map(lambda data: data + b"\n"), lambda line: isinstance(parse_event(line), Event) or 1 / 0)
    path = tmp_path / "events.jsonl"
    kinds = st.sampled_from(["Step", "Started", "Validated", "Graded", "Previewed", "Saved", "Warned", "Finished", "Failed", "Nothing"])
    keys = st.sampled_from(
        [
            "time",
            "step",
            "epoch",
            "loss",
            "average",
            "learning_rate",
            "gradient_norm",
            "seconds",
            "memory_bytes",
            "message",
            "path",
            "kind",
            "files",
            "scores",
            "reason",
            "bug",
        ]
    )
    lines = st.lists(
        st.builds(lambda kind, fields: json.dumps({"type": kind, **fields}), kinds, st.dictionaries(keys, values, max_size=9)), max_size=4
    )

    def read(lines):
        path.write_text("\n".join(lines), encoding="utf-8")
        History().read_on(path)
        History(is_outline=True).read_on(path)
        list(EventLog(path).read())

    feed("lines of events", lines, read)


def test_uploads(tmp_path):
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "a cat")
        file.writestr("deep/b.txt", "b" * 500)
    packed, plain = tmp_path / "a.zip", tmp_path / "a.txt"
    plain.write_text("a", encoding="utf-8")

    def unpack(data):
        packed.write_bytes(data)
        add_to_data_set(tmp_path / "sets", "s", [packed], (".png", ".txt"))

    feed("uploads", mangled([buffer.getvalue()]), unpack)
    feed("uploads", texts, lambda name: add_to_data_set(tmp_path / "sets", name, [plain], (".png", ".txt")))

    def pack_named(names):
        with zipfile.ZipFile(packed, "w") as file:
            for name in names:
                entry = zipfile.ZipInfo("-")
                entry.filename = name  # as other programs write it: Python's own writer mends names, or fails on them
                file.writestr(entry, "x")
        add_to_data_set(tmp_path / "sets", "t", [packed], (".png", ".txt"))

    entries = st.lists(texts.map(lambda text: text.encode("utf-8", "replace").decode() + ".txt"), max_size=4)
    feed("uploads", entries, pack_named)
    assert not list(tmp_path.parent.glob("*.txt"))


def test_the_http_api(tmp_path, monkeypatch):
    monkeypatch.setattr("hotlora.engine.jobs.work_with_tensorboard", lambda job: None)  # what is asked counts here, not what is trained
    app = FastAPI()
    app.include_router(build_router(toy_studio(tmp_path), None))
    client = TestClient(app, raise_server_exceptions=False)
    part = texts.map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))) | st.sampled_from(
        ["cat", "..", "stop"]
    )
    paths = st.one_of(
        st.sampled_from(["/runs", "/check", "/data", "/datasets", "/options", "/presets", "/nothing"]),
        st.builds("/runs/{}".format, part),
        st.builds(
            "/runs/{}/{}".format,
            part,
            st.sampled_from(["pause", "go_on", "stop", "sample", "save", "resume", "events", "events?since=-1", "events?since=1e9", "x"]),
        ),
        st.builds("/runs/{}/samples/{}".format, part, part),
        st.builds("/datasets/{}".format, part),
        st.builds("/presets/{}".format, part),
        st.builds("/data?thumbnails={}".format, part),
    )
    bodies = st.one_of(
        st.dictionaries(st.sampled_from(names[ImageConfig]), values, max_size=4).map(json.dumps),
        values.map(json.dumps),
        texts,
        st.just('{"output_name": "cat", "train_data_dir": "x"}'),
    )
    kinds = st.sampled_from(["application/json"] * 6 + ["text/plain", "multipart/form-data; boundary=x", "multipart/form-data", ""])
    methods = st.sampled_from(["GET", "POST", "POST", "POST", "DELETE", "PUT"])

    def ask(request):
        method, path, body, kind = request
        data = body.encode("utf-8", "surrogatepass")
        answer = client.request(method, f"/hotlora/v1{path}", content=data, headers={"content-type": kind} if kind else {})
        assert answer.status_code < 500, f"{answer.status_code}: {answer.text[:200]}"

    for _ in range(3 if FULL else 1):
        feed("requests to the HTTP API", st.tuples(methods, paths, bodies, kinds), ask)
