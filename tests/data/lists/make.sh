#!/bin/sh
# Makes people.xlsx, .ods and .xls from people.fods with LibreOffice, a real spreadsheet program:
#     apt-get install --no-install-recommends libreoffice-calc && tests/data/lists/make.sh
# The results are kept in the repository, so the tests do not need it.
set -eu
cd "$(dirname "$0")"
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
for kind in xlsx ods xls; do
    soffice --headless "-env:UserInstallation=file://$profile" --convert-to "$kind" --outdir . people.fods
done
# uncalculated.xls is of xlwt, which stores an empty text as the result of every formula.
