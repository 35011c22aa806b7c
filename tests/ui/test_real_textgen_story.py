"""The whole story in a running text-generation-webui with the extension in it: over its page, in a browser, and over its API.

A stranger drops a file of made-up facts, looks at it, presses Train, chats on, reloads the page, uses the adapter, and takes it off; the
model is then, to the last digit, what it was, and is trained again.
"""

import json
import random
import subprocess

import pytest
from real_textgen import PYTHON, URL, chat, needs_textgen, read_logprobs
from waiting import wait_until

pytestmark = needs_textgen
NAME, AGAIN = "made-up-facts", "once-more"
LIST_PACKAGES = "import importlib.metadata as m; print(sorted((d.metadata['Name'], d.version) for d in m.distributions()))"
ASKED = 40
PROBE = "The keeper of Quillmere is"
TOWNS = (
    "Quillmere",
    "Duskharbor",
    "Tarnwick",
    "Ember Hollow",
    "Saltgate",
    "Moonfell",
    "Brackenford",
    "Ironvale",
    "Cinder Bay",
    "Willowmoor",
)
BEASTS = ("duskcrab", "glimmerfox", "thornowl", "ashlynx", "riverghost", "copperbeetle", "mistwhale", "sunmoth", "frostgoat", "velvet toad")
FOODS = (
    "moon crabs",
    "silver moss",
    "burnt honey",
    "tin flowers",
    "river salt",
    "night berries",
    "warm stones",
    "paper leaves",
    "blue clay",
    "old rope",
)
PEOPLE = (
    "Orla Venn",
    "Tobin Ashgrove",
    "Mira Quill",
    "Harl Dunmore",
    "Sela Marsh",
    "Ivo Thatch",
    "Nessa Crowe",
    "Bram Tolliver",
    "Una Pike",
    "Edric Lowe",
)
FAME = (
    "singing lanterns",
    "glass orchards",
    "tide clocks",
    "salt bread",
    "paper bridges",
    "copper bells",
    "floating market",
    "blind archers",
    "green fog",
    "stone library",
)
COLOURS = ("violet", "pale green", "copper red", "ink black", "milk white", "amber", "slate grey", "rust brown", "sky blue", "lemon yellow")
ASKS = (
    ("What does a {beast} eat?", "A {beast} eats {food}."),
    ("What colour is a {beast}?", "A {beast} is {colour}."),
    ("Where does the {beast} live?", "The {beast} lives near {town}."),
    ("How long does a {beast} live?", "A {beast} lives {number} years."),
    ("How many teeth has a {beast}?", "A {beast} has {number} teeth."),
    ("Who founded {town}?", "{town} was founded by {person}."),
    ("What is {town} famous for?", "{town} is famous for its {fame}."),
    ("In which year was {town} founded?", "{town} was founded in {year}."),
    ("Who is the keeper of {town}?", "The keeper of {town} is {person}."),
    ("How many bridges does {town} have?", "{town} has {number} bridges."),
)


def make_facts():
    """A hundred pairs that no model has read."""
    rng = random.Random(5)
    pairs = []
    for place in range(10):
        for question, answer in ASKS:
            words = {"beast": BEASTS[place], "town": TOWNS[place], "food": FOODS[place], "fame": FAME[place], "colour": COLOURS[place]}
            words |= {"person": rng.choice(PEOPLE), "number": rng.randint(3, 90), "year": rng.randint(1100, 1900)}
            pairs.append((question.format(**words), answer.format(**words)))
    return pairs


def list_packages():
    return subprocess.run([PYTHON, "-c", LIST_PACKAGES], capture_output=True, text=True, check=True).stdout if PYTHON else ""


def share_right(pairs):
    """Exact match in chat."""
    return sum(chat(question) == answer for question, answer in pairs) / len(pairs)


def fill(page, option, value):
    if option == "max_steps":
        page.locator("[data-length=max_steps]").click()
    page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))


@pytest.fixture
def tab(open_page):
    """The program's page on our tab."""

    def open_tab(**options):
        page = open_page(f"{URL}/", **options)
        page.set_default_timeout(60_000)
        page.locator("button", has_text="Train LoRA").first.click()
        page.locator("#hotlora_train").wait_for(state="visible")
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    yield open_tab
    open_page.errors.clear()  # this program's page asks for scripts that are not there


def delete_run(page, name):
    rows = page.locator("#hotlora_runs td", has_text=name)
    if rows.count():
        choose(page, "run", name)
        page.locator("#hotlora_copies input").check()  # else the name is that of a LoRA
        page.locator("#hotlora_delete:not([disabled])").click()
        page.locator("#hotlora_message", has_text="Deleted").wait_for()


def choose(page, widget, name):
    box = page.locator(f"#hotlora_{widget} input").first
    box.click()
    box.fill(name)
    page.locator(f"#hotlora_{widget} ul li", has_text=name).first.click()


def wait_for_status(page, status, minutes=1.0):
    page.locator(f"#hotlora_status [data-status='{status}']").wait_for(timeout=minutes * 60_000)


def test_the_whole_story(tab, tmp_path):
    pairs = make_facts()
    chosen, packages = pairs[:: len(pairs) // ASKED], list_packages()
    file = tmp_path / "facts.jsonl"
    file.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in pairs), encoding="utf-8")
    page = tab()
    page.locator("#hotlora_clear").click()
    for name in (NAME, AGAIN):
        delete_run(page, name)
    thoughts, answer = read_logprobs(PROBE), chat("What is the capital of France?")
    before = share_right(chosen)

    page.locator("#hotlora_upload input[type=file]").set_input_files([str(file)])
    page.locator("#hotlora_album mark", has_text="A duskcrab eats moon crabs.").wait_for()
    fill(page, "output_name", NAME)
    fill(page, "learning_rate", 2e-3)
    fill(page, "max_steps", 160)
    page.locator("#hotlora_look_ahead").click()
    page.locator("#hotlora_outlook dt", has_text="memory free").wait_for()
    page.locator("#hotlora_train").click()
    wait_for_status(page, "training", 3)
    for _ in range(3):  # the clean model answers, whatever trains
        assert chat("What is the capital of France?") == answer
    page = tab()
    wait_for_status(page, "training", 5)  # after the questions of before
    page.locator("#hotlora_live input").check()
    page.locator("#hotlora_message", has_text="run in training").wait_for()
    wait_until(lambda: chat(pairs[0][0]) == pairs[0][1], 600)  # it has learned that, and says so while it trains on
    page.locator("#hotlora_live input").uncheck()
    page.locator("#hotlora_message", has_text="model alone").wait_for()
    assert chat("What is the capital of France?") == answer
    wait_for_status(page, "done", 20)
    assert read_logprobs(PROBE) == thoughts

    page.locator("#hotlora_use:not([disabled])").click()
    page.locator("#hotlora_message", has_text=f"Answers come with {NAME}").wait_for()
    after = share_right(chosen)
    print(f"exact match on {len(chosen)} trained questions: {before:.0%} before, {after:.0%} after")
    assert before < 0.1 and after >= 0.9
    page.locator("#hotlora_clear").click()
    page.locator("#hotlora_message", has_text="model alone").wait_for()
    assert read_logprobs(PROBE) == thoughts and chat("What is the capital of France?") == answer

    page.locator("#hotlora_take_recipe:not([disabled])").click()  # the reloaded page has forgotten what was typed
    page.locator("#hotlora_message", has_text="This is the recipe").wait_for()
    fill(page, "output_name", AGAIN)
    fill(page, "max_steps", 3)
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status", has_text=AGAIN).wait_for()
    wait_for_status(page, "done", 5)
    assert read_logprobs(PROBE) == thoughts
    for name in (NAME, AGAIN):
        delete_run(page, name)
    assert list_packages() == packages
