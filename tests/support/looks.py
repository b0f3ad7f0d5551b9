"""What every page of ours must stand: to be read in light and dark, to fit a phone, to have names to read aloud."""

from __future__ import annotations

from playwright.sync_api import Page

#: Texts with less than 4.5:1 (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ground = (el) => {
        for (; el; el = el.parentElement) {
            const colour = parse(getComputedStyle(el).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
    };
    const poor = [];
    for (const el of document.querySelectorAll("body *")) {
        const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !el.checkVisibility({ visibilityProperty: true })) continue;
        const [a, b] = [light(parse(getComputedStyle(el).color)), light(ground(el))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${el.textContent.trim()} ${ratio.toFixed(2)}`);
    }
    return poor;
}"""

#: What can be used and has no name that is read aloud.
NAMELESS = """() => [...document.querySelectorAll(
        "button, a[href], input, select, textarea, audio, progress, meter")]
    .filter((el) => el.checkVisibility() && el.type !== "hidden" && !(el.ariaLabel || el.labels?.length
        || el.textContent.trim() || el.querySelector("img[alt]:not([alt=''])")))
    .map((el) => el.outerHTML)"""

#: What has the focus: its name, and whether that can be seen.
FOCUS = """() => {
    const at = document.activeElement, style = getComputedStyle(at);
    return [at.textContent.trim() || at.ariaLabel, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0];
}"""


def check_looks(page: Page) -> None:
    """As it is now: on a small phone and a desktop, light and dark."""
    size = page.viewport_size
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(CONTRAST) == [], f"less than 4.5:1 in {scheme}"
    if size is not None:
        page.set_viewport_size(size)


def check_names(page: Page) -> None:
    """Whatever can be used has a name that is read aloud."""
    assert page.evaluate(NAMELESS) == []
