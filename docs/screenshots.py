"""Takes docs/images/admin/: every page of the dashboard, light, dark and as on a phone. `make screenshots` runs it.

A small deployment of its own: a server, two nodes with a day behind them, a Celery worker, traffic while the charts are
collected, and something wrong of each kind. Its past is lived through by the store's clock, which begins a day ago.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from base64 import b64decode, b64encode
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Browser, Page, expect  # noqa: E402 - the tests' tools lie in tests/

from sessionsweep import Client, Session  # noqa: E402
from sessionsweep.admin import create_admin  # noqa: E402
from sessionsweep.model.holds import Hold  # noqa: E402
from sessionsweep.store import operations as op  # noqa: E402
from sessionsweep_workers.devstack.server import EmbeddedServer  # noqa: E402
from support.browser import chromium  # noqa: E402
from support.nodes import KEY, Node  # noqa: E402
from support.processes import LocalProcess, local_processes  # noqa: E402
from support.serving import serving  # noqa: E402

TARGET = ROOT / "docs/images/admin"
TOKEN = "screenshots-" + "t" * 40
STEP, STEPS = 1800, 48  # seconds, and how often: a day
LOOKING = 20  # seconds that the overview lies open, so that its charts have something to show
LARGEST = 150_000  # bytes of an image
USERS = ("ana", "ben", "chloé", "dimitri", "eva", "farid", "greta", "hiro", None, None)
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1) Safari/605.1")
WORKER = "python -m celery -A sessionsweep_workers worker -P threads -c 2 -l INFO --without-mingle --without-gossip"
BEAT = "python -m celery -A sessionsweep_workers beat -l WARNING"
SIZES = {"": (1280, 860, "light"), "-dark": (1280, 860, "dark"), "-phone": (390, 844, "light")}
#: PNG to WebP, by the browser: a third of the bytes. Both in base64.
PACK = """async (png) => {
    const image = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").drawImage(image, 0, 0);
    const packed = await canvas.convertToBlob({ type: "image/webp", quality: 0.7 });
    return btoa(Array.from(new Uint8Array(await packed.arrayBuffer()), (byte) => String.fromCharCode(byte)).join(""));
}"""


class Traffic:
    """People who come, make files and leave, by seeded dice."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.dice = random.Random(1974)  # noqa: S311 - the same people each time, no secret
        self.here: list[Session] = []

    def goes_on(self, people: int) -> None:
        """So many come; about as many of those who are here leave, or are forgotten."""
        for _ in range(people):
            node = self.dice.choice(self.nodes)
            client = Client(f"203.0.113.{self.dice.randint(1, 254)}", self.dice.choice(AGENTS))
            session, _ = node.sessions.create(client, user=self.dice.choice(USERS))
            for _ in range(self.dice.choice((0, 1, 1, 2, 4))):
                node.write(session, self.dice.randint(5_000, 400_000))
            self.here.append(session)
        self.dice.shuffle(self.here)
        while len(self.here) > 25 + people:
            leaving = self.here.pop()
            if self.dice.random() < 0.6:
                leaving.end()

    def day(self) -> None:
        """A day: more by day than by night."""
        first = self.nodes[0]
        self._moves(-STEP * STEPS)
        for number in range(STEPS):
            self.goes_on(3 + round(9 * abs(1 - abs(number - STEPS / 2) / (STEPS / 2))))
            self._moves(STEP)
            for node in self.nodes:
                node.upkeep.run_once()
            first.sweep.run_once()
            for node in self.nodes:
                node.reclaim.run_once()

    def _moves(self, seconds: float) -> None:
        first, *others = self.nodes
        first.advance(seconds)
        for node in others:  # one store's time, and each one's own clock
            node._advanced += seconds


def something_wrong(a: Node, b: Node) -> tuple[str, str]:
    """A dead letter, a debt that fails, a silent node and a hold. A live session's id, and an ended one's."""
    live, _, _ = a.session_with_file(180_000, user="ana", client=Client("203.0.113.7", AGENTS[0]))
    a.write(live, 64_000)
    a.write(live, 2_400_000)
    ended, _, obstructed = a.session_with_file(30_000, user="greta", client=Client("203.0.113.9", AGENTS[1]))
    a.write(ended, 90_000)
    obstructed.unlink()
    obstructed.mkdir()  # what lies there is no file, and isn't deleted
    ended.end()
    for _ in range(2):
        waiting, _, _ = b.session_with_file(250_000, user="hiro")
        waiting.end()
    a.reclaim.run_once()
    now = a.store.execute(op.Facts()).now
    text = "/srv/voice/b has no marker, but node node-b has mounted a volume 'b' before: is the disk mounted?"
    hold = Hold("mount:node-b/b", "marker-missing", text, now, "node-b")
    a.store.execute(op.TablePut("holds", hold.scope, hold.encode()))
    return live.id, ended.id


def shoot(browser: Browser, url: str, pages: dict[str, str]) -> None:
    """Every page in every form."""
    for form, (width, height, scheme) in SIZES.items():
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(f"{url}/admin/")
        save(page, f"login{form}")
        page.get_by_label("Admin token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        page.wait_for_timeout(LOOKING * 1000)
        save(page, f"overview{form}")
        for name, path in pages.items():
            page.goto(f"{url}/admin{path}", wait_until="load")
            page.wait_for_timeout(700)  # charts and streams are drawn by scripts
            save(page, f"{name}{form}")
        context.close()


def save(page: Page, name: str) -> None:
    """One image. A long page is cut: what it looks like is seen from its beginning."""
    size = page.viewport_size
    assert size is not None
    height = min(page.evaluate("document.documentElement.scrollHeight"), round(1.5 * size["height"]))
    taken = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": size["width"], "height": height})
    blank = page.context.new_page()  # whose policy allows scripts that come from here
    packed = blank.evaluate(PACK, b64encode(taken).decode())
    blank.close()
    path = TARGET / f"{name}.webp"
    path.write_bytes(b64decode(packed))
    assert path.stat().st_size < LARGEST, f"{path.name} has {path.stat().st_size:,} bytes"


def main() -> None:
    """Everything, in about five minutes."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voice-")))
        options = {
            "admin_token": TOKEN,
            "idle_timeout": 1800,
            "max_duration": 28_800,
            "reclaim_tries": 3,
            "cleanup_interval": 10,
        }
        options["sweeper"] = "workers"
        a, b = (Node(server.url, "voice", root, f"node-{x}", volumes=f"{x}={root / x}", **options) for x in "ab")
        for node in (a, b):
            stack.callback(node.close)
            node.mount()
        traffic = Traffic(a, b)
        traffic.day()
        live, ended = something_wrong(a, b)
        environ = {
            "SESSIONSWEEP_REDIS_URL": server.url,
            "SESSIONSWEEP_NAMESPACE": "voice",
            "SESSIONSWEEP_SECRET_KEY": KEY,
            "SESSIONSWEEP_NODE": "node-a",
            "SESSIONSWEEP_VOLUMES": f"a={root / 'a'}",
            "SESSIONSWEEP_GRACE_PERIOD": "1",
            "SESSIONSWEEP_CLEANUP_INTERVAL": "10",
            "SESSIONSWEEP_RECLAIM_TRIES": "3",
        }
        worker = LocalProcess("worker", [*WORKER.split(), "-n", "a@%h"], root, env=environ, ready_when=" ready.")
        beat = LocalProcess("beat", [*BEAT.split(), "-s", str(root / "schedule")], root, env=environ)
        stack.enter_context(local_processes(worker, beat))
        url = stack.enter_context(serving(create_admin(sessions=a.sessions)))
        over = threading.Event()

        def busy() -> None:
            while not over.wait(2):
                traffic.goes_on(traffic.dice.choice((0, 1, 1, 2, 5)))

        people = threading.Thread(target=busy, name="traffic")
        people.start()
        stack.callback(people.join)
        stack.callback(over.set)
        browser = stack.enter_context(chromium())
        order_a_sweep(browser, url)
        pages = {
            "trends": "/ui/trends", "sessions": "/ui/sessions", "session": f"/ui/sessions/{live}",
            "session-ended": f"/ui/sessions/{ended}", "end": f"/ui/sessions/{live}/end", "volumes": "/ui/volumes",
            "owed": "/ui/owed", "dead-letters": "/ui/dead-letters", "holds": "/ui/holds", "nodes": "/ui/nodes",
            "sweeps": "/ui/sweeps", "events": "/ui/events",
        }  # fmt: skip
        shoot(browser, url, pages)


def order_a_sweep(browser: Browser, url: str) -> None:
    """So that the page of sweeps has one to show."""
    page = browser.new_page()
    page.goto(f"{url}/admin/ui/sweeps")
    page.get_by_label("Admin token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sweep idle now").click()
    expect(page.get_by_role("region", name="The sweep asked for")).to_contain_text("done", timeout=60_000)
    page.close()


if __name__ == "__main__":
    main()
