"""`python -m train.shards URL`: read every sample of prepared shards and report damaged ones."""

import argparse
import sys

from train.extras import requires_extra

with requires_extra("train", __name__):
    from train.data.shard_files import SPLITS, check
    from train.data.storage import Store
    from train.errors import ShardError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.shards", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="folder or URL of the shards")
    options = parser.parse_args(arguments)
    try:
        names = Store(options.url).sizes()
        splits = [s for s in SPLITS if f"{s}.index.npz" in names]
        if not splits:
            raise ShardError(f"{options.url} holds no finished shards; make them with `python -m train.prepare`")
        results = {split: check(options.url, split) for split in splits}
    except (ShardError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split, (good, bad) in results.items():
        for line in bad:
            print(f"damaged {line}", file=sys.stderr)
        print(f"{split}: {good} samples good, {len(bad)} samples or shards damaged")
    return 1 if any(bad for _, bad in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
