"""What the writers of XML timelines share."""

import xml.etree.ElementTree as ET
from pathlib import Path


def add(parent: ET.Element, tag: str, text: object = None, **attributes: object) -> ET.Element:
    """Add an element with text and attributes."""
    element = ET.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})
    element.text = None if text is None else str(text)
    return element


def file_url(path: Path, host: str = "") -> str:
    """An absolute path as a file URL, percent-encoded."""
    return path.as_uri().replace("file://", f"file://{host}", 1)


def xml_document(root: ET.Element, doctype: str = "") -> str:
    """The text of a document, indented."""
    ET.indent(root, " ")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' + (f"<!DOCTYPE {doctype}>\n" if doctype else "")
    return head + ET.tostring(root, encoding="unicode") + "\n"
