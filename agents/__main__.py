"""`python -m agents`: the `seqgan` command. Python has put the current folder first in the import path; see there."""

import sys

from agents.command.import_path import demote_current_folder

if __name__ == "__main__":
    demote_current_folder(sys.argv[1:])

    from agents.command.main import main

    main()
