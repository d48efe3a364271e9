"""Runs the launcher: python -m kdas_tf."""

from kdas_tf.launch import command

if __name__ == "__main__":
    command()
