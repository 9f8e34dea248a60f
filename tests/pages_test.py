"""Tests of the pages: every link leads to an existing file and heading, and every page is linked from the README or
another page."""

import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


def without_code(text):
    """Returns the text without its code blocks, in which brackets are no links and number signs no headings."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Returns the anchors that GitHub makes from a page's headings."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", without_code(page.read_text()), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while slug + (f"-{number}" if number else "") in found:
            number += 1
        found.add(slug + (f"-{number}" if number else ""))
    return found


class PagesTest(unittest.TestCase):
    def test_links_lead_somewhere(self):
        wrong, followed = [], 0
        for page in pages():
            for link in LINK.findall(without_code(page.read_text())):
                if re.match(r"[a-z]+:", link):
                    continue
                followed += 1
                path, _, anchor = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                if not target.exists():
                    wrong.append(f"{page.relative_to(ROOT)}: {link}: there is no such file")
                elif anchor and anchor not in anchors(target):
                    wrong.append(f"{page.relative_to(ROOT)}: {link}: there is no such heading")
        self.assertEqual(wrong, [])
        self.assertGreater(followed, 50)

    def test_every_page_can_be_reached(self):
        reached, queue = set(), [ROOT / "README.md"]
        while queue:
            page = queue.pop()
            if page in reached or page.suffix != ".md":
                continue
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", link))
            queue += [(page.parent / link).resolve() for link in links if link]
        missing = {page.relative_to(ROOT).as_posix() for page in pages()} - {page.relative_to(ROOT).as_posix() for page in reached}
        self.assertEqual(missing - {"AGENTS.md"}, set())


if __name__ == "__main__":
    unittest.main()
