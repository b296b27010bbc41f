"""`python -m hf_stabilizer`, which `accelerate launch -m hf_stabilizer` also runs."""

from hf_stabilizer.cli import main

if __name__ == "__main__":
    main()
