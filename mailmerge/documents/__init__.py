"""Files that are made for each row: PDFs from HTML or Typst, text and tables; kept in the user's cache.

- `maker`: from the output of templates to a file, made once until one of its inputs changes
- `material`: what the others share
- `pages`: HTML to PDF, by WeasyPrint
- `typesetting`: Typst to PDF, by a compiler that is kept
- `passwords`: a PDF that opens only with its password
"""
