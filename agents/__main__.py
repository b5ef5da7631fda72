"""`python -m agents`: the `seqgan` command."""

from agents.command.main import main

if __name__ == "__main__":
    main()
