"""Dozens of processes compile the same files unless they may keep what they compiled: 10 s against
4 to collect."""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
