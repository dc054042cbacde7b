"""Files that are made for each row: PDFs from HTML or Typst, texts and tables; kept in the user's cache.

- `maker`: from what the templates said to a file, made once for as long as nothing that it is made of changes
- `material`: what the others share
- `pages`: HTML to PDF, by WeasyPrint
- `typesetting`: Typst to PDF, by a compiler that is kept
- `passwords`: a PDF that only opens with its password
"""
