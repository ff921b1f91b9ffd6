"""Reads a CI recipe with PyYAML and prints as JSON what it holds: {"recipe": …, "commands": [shell lines]}."""

import json
import sys

import yaml


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice. `on` stays a text, as GitHub reads it."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value)}


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
Strict.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first not in "oO"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def commands(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "before_script", "after_script"):
                for text in [value] if isinstance(value, str) else value:
                    yield from text.replace("\\\n", " ").splitlines()
            else:
                yield from commands(value)
    elif isinstance(node, list):
        for item in node:
            yield from commands(item)


with open(sys.argv[1], encoding="utf-8") as file:
    recipe = yaml.load(file, Loader=Strict)
print(json.dumps({"recipe": recipe, "commands": list(commands(recipe))}))
