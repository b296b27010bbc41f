"""What is there to begin with? `hf-stabilizer recipes`, `init` and `env`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.errors import ConfigurationError


def add(command: AddCommand) -> None:
    """Adds `recipes`, `init` and `env`."""
    recipes = command("recipes", _recipes, "List the recipes, or show one.")
    recipes.add_argument("name", nargs="?", help="recipe to show")

    init = command("init", _init, "Write a starting configuration with published values.")
    init.add_argument("model", nargs="?", help="model family, Hub id or folder")
    init.add_argument("--task", default="text-classification")
    init.add_argument("--output", default="config.yaml")
    init.add_argument("--keys", action="store_true", help="list every configuration key")

    env = command("env", _env, "Show versions and hardware, for reports of problems.")
    for parser in (recipes, init, env):
        parser.epilog = None


def _recipes(args: argparse.Namespace) -> None:
    no_overrides(args)
    from hf_stabilizer.recipes import load_recipe, recipe_folder, recipe_names

    if args.name:
        load_recipe(args.name)
        print((recipe_folder() / f"{args.name}.yaml").read_text(encoding="utf-8"), end="")
        return
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        print(f"{name:<{width}}  {load_recipe(name).summary}")


def _init(args: argparse.Namespace) -> None:
    no_overrides(args)
    if args.keys:
        from hf_stabilizer.configuration import describe_keys

        print(describe_keys())
        return
    from hf_stabilizer.records import check_folder
    from hf_stabilizer.starting_points import family_names, starting_configuration

    if not args.model:
        raise ConfigurationError(
            f"name a model family ({', '.join(family_names())}), a Hub id or a folder"
        )
    path = Path(args.output)
    if path.exists():
        raise ConfigurationError(f"{str(path)!r} is there already; give another --output")
    check_folder(path.parent, key="output")
    text = starting_configuration(args.model, task=args.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"{path} is written; look through it, then: hf-stabilizer train {path}")


def _env(args: argparse.Namespace) -> None:
    no_overrides(args)
    import platform

    import torch

    from hf_stabilizer.records import versions

    for name, found in versions().items():
        print(f"{name:<14} {found}")
    print(f"{'platform':<14} {platform.platform()}")
    print(f"{'cores':<14} {os.cpu_count()}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'GPUs':<14} {', '.join(devices) or 'none'}")
