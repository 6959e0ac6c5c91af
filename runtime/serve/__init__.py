"""`maskvat serve`: a server for pages, editors and other machines. docs/SERVER.md is its guide.

Needs the extra `serve`; it is the only part of `runtime` that imports Starlette and uvicorn. It imports no engine:
sounds are made by worker processes that speak the protocol of `maskvat stdio`.
"""
