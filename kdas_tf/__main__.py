"""Runs the launcher: python -m kdas_tf."""

import sys

from kdas_tf.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
