#!/bin/sh
# Makes people.xlsx from people.fods with LibreOffice, a real spreadsheet program:
#     apt-get install --no-install-recommends libreoffice-calc && tests/data/lists/make.sh
# The results are kept in the repository, so the tests do not need it.
set -eu
cd "$(dirname "$0")"
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
soffice --headless "-env:UserInstallation=file://$profile" --convert-to xlsx --outdir . people.fods
