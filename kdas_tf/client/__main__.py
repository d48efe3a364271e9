"""`python -m kdas_tf.client`: the command line of `kdas_tf.client.command`."""

import sys

from kdas_tf.client import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))
