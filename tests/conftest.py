"""Fixtures: a loopback server, a small recipe that talks to it, and the command line as a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qdcgen.testing import Server

ROOT = Path(__file__).parent.parent

RECIPE = """\
recipe: 1
name: small
seed: 3
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: {{tree: {{cards: [lost, declined], transfers: [pending, wrong account]}}}}
  tone: [polite, angry]
layers:
  channel: {{choice: {{chat: 2, email: 1}}}}
  words: {{range: {{min: 5, max: 20}}}}
generate:
  - write:
      fields: {{message: {{type: string}}, urgency: [low, high]}}
      prompt: "A {{{{ tone }}}} message by {{{{ channel }}}} of {{{{ words }}}} words about {{{{ topic.path }}}}"
filters:
  - schema
  - length: {{field: message, min_words: 3}}
  - duplicates: {{field: message, similarity: 0.9}}
target: {{rows: 40, candidates: 3}}
measure: {{text: message}}
"""


@pytest.fixture
def server():
    """A loopback model."""
    with Server() as running:
        yield running


@pytest.fixture
def small(tmp_path, server):
    """The path of a recipe of 40 rows that talks to `server`."""
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.format(url=server.url))
    return path


@pytest.fixture
def qdcgen(tmp_path):
    """Run a command as a user would, in a folder of its own: `qdcgen("run", "small.yaml")`."""

    def run(*arguments, timeout=120, environ=None, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "", "NO_COLOR": "", **(environ or {})}
        return subprocess.run(
            [sys.executable, "-c", "from qdcgen.cli import main; main()", *map(str, arguments)],
            cwd=options.pop("cwd", tmp_path),
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    return run
