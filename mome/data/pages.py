"""The text of an HTML page: headings, paragraphs, items and cells, a line each."""

import re

import lxml.etree
import lxml.html

UNREAD = "//head|//script|//style|//template|//noscript|//nav|//comment()|//processing-instruction()"
# What begins a line.
LINES = {*("h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "br", "hr", "div", "li", "ul", "ol", "dl", "dt"),
         *("dd", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "figcaption"),
         *("address", "article", "aside", "blockquote", "body", "details", "footer", "form", "header"),
         *("html", "main", "section", "summary")}
PARSER = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)


def page_text(html: str) -> str:
    """Return what a page says, without its head, scripts and navigation; empty where it says nothing."""
    try:
        page = lxml.html.document_fromstring(html.encode(), parser=PARSER)
    except lxml.etree.LxmlError:  # nothing but white space and comments
        return ""
    for element in page.xpath(UNREAD):
        if element.getparent() is not None:  # not beside the page itself
            element.drop_tree()
    verbatim = set(page.xpath("//pre|//pre//*"))
    for element in page.iter("*"):
        if element not in verbatim:
            element.text = squeeze(element.text)
        if element.getparent() not in verbatim:
            element.tail = squeeze(element.tail)
        if element.tag in LINES:
            element.text, element.tail = f"\n{element.text or ''}", f"\n{element.tail or ''}"
    lines = (re.sub(r"^ (?! )", "", line).rstrip() for line in page.text_content().split("\n"))
    return "\n".join(filter(None, lines))


def squeeze(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")
