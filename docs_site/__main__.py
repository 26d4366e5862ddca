"""Writes what is made from the code."""

from docs_site.pages import made_files

for path, text in made_files().items():
    path.write_text(text, encoding="utf-8")
    print(path)
