"""The documentation's own tools: pages that are made from the code, and the site's build.

python -m docs_site        writes the pages anew
"""
