"""Checks that hold for every page: whole, self-contained, readable on a telephone and at night."""

from html.parser import HTMLParser

Elements = list[tuple[str, dict[str, str | None]]]
VOID = {"meta", "br"}


def checked(content: bytes, *, links: bool = False) -> tuple[str, Elements]:
    """Return the text of a page, spaces made plain, and its elements, after checking it.

    Every element is closed in order, nothing is fetched or run, there is one heading of the first
    level and a sentence under it, pictures have a label, and the style has a dark mode and prints.

    Args:
        links: whether the page may lead to files beside it.
    """
    source = content.decode()
    opened: list[str] = []
    elements: Elements = []
    texts: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert len(attrs) == len(dict(attrs)), f"<{tag}> repeats an attribute"
            elements.append((tag, dict(attrs)))
            if tag not in VOID:
                opened.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag, f"</{tag}> closes something else"

        def handle_data(self, data: str) -> None:
            texts.append(data)

    parser = Parser(convert_charrefs=True)
    parser.feed(source)
    parser.close()
    assert opened == [], "elements are left open"
    assert source.lower().startswith("<!doctype html>")
    for tag, attributes in elements:
        assert tag not in {"script", "link", "img", "image", "iframe", "object", "embed"}
        fetched = {"src", "srcset", "data", "action", "id", *(() if links else ("href",))}
        assert not fetched & set(attributes), f"<{tag}> fetches"
        assert not any(name.startswith("on") for name in attributes), f"<{tag}> runs a script"
        assert ":" not in (attributes.get("href") or ""), "a link leads elsewhere"
    for outside in ("http", "@import", "url("):
        assert outside not in source, outside
    tags = [tag for tag, _ in elements]
    assert ("meta", {"charset": "utf-8"}) in elements
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in elements
    style = source.partition("<style>")[2].partition("</style>")[0]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    assert "overflow-x: auto" in style, "wide tables scroll in a box of their own"
    assert (tags.count("h1"), tags.count("title") >= 1) == (1, True)
    after_title = elements[tags.index("h1") + 1]
    assert (after_title[0], (after_title[1]["class"] or "")[:4]) == ("p", "lead")
    for attributes in figures(elements):
        assert attributes["aria-label"]
        assert "viewbox" not in attributes, "text would shrink with the page"
    return " ".join(" ".join(texts).split()), elements


def figures(elements: Elements) -> list[dict[str, str | None]]:
    """Return the attributes of the charts."""
    return [attributes for tag, attributes in elements if attributes.get("role") == "img"]
