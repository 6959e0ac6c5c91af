#!/bin/sh
# build.sh FOLDER: make the image and save it as FOLDER/maskvat.tar, with its lists of parts and licences beside it.
#
# FOLDER/base.tar (a Debian with Python) and FOLDER/wheels are made if they are absent; this alone needs a network. Needs root,
# buildah, and python3 with the extra `sbom`. BUILDAH holds further options for buildah, such as --runtime=runc or --isolation=chroot.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1" && cd "$1"

[ -e base.tar ] || mmdebstrap --variant=minbase --include=python3,python3-venv bookworm base.tar
[ -d wheels ] || python3 -m pip wheel --quiet --wheel-dir wheels "$root[cpu,serve]"

# What is in the image. A component whose licence is not known ends this script.
rm -rf listed && mkdir listed
tar -xf base.tar -C listed ./var/lib/dpkg/status ./usr/share/doc
python3 -m venv listed/venv
listed/venv/bin/python -m pip install --quiet --no-index --find-links wheels 'maskvat[cpu,serve]'
site=$(listed/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PYTHONPATH=$root python3 -m deploy.sbom --python listed/venv/bin/python --libraries "$site" --debian listed --out sbom.json
PYTHONPATH=$root python3 -m deploy.licences sbom.json --texts "$site" --out LICENCES.md
rm -r listed

buildah images --quiet localhost/debian-python:bookworm >/dev/null 2>&1 || {
    base=$(buildah from scratch)
    buildah add --quiet "$base" base.tar /
    buildah commit --quiet --rm "$base" localhost/debian-python:bookworm
}
cp "$here/healthy.py" .
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")
buildah bud --network=none --pull-never --format docker ${BUILDAH:-} -t "localhost/maskvat:$version" -f "$here/Containerfile" .
rm healthy.py
rm -f maskvat.tar
buildah push "localhost/maskvat:$version" "docker-archive:maskvat.tar:localhost/maskvat:$version"
