"""The command that writes the input for CloudFormation to import the tables, secrets and key that a deleted stack left.

    retained.py names.json FOLDER     writes FOLDER/template.json and FOLDER/resources.json

`names.json` has the name, ARN or key id of each resource by its name in template.yaml.
"""

import json
import pathlib
import sys

from common import ROOT, enter_venv, fail

# The identifiers by which CloudFormation imports a resource of each type.
IDENTIFIERS = {"AWS::DynamoDB::Table": "TableName", "AWS::SecretsManager::Secret": "Id", "AWS::KMS::Key": "KeyId"}


def retained(template):
    """Returns the resources that stay when the stack goes."""
    resources = template["Resources"].items()
    return {name: resource for name, resource in resources if resource.get("DeletionPolicy") == "RetainExceptOnCreate"}


def import_of(template, names):
    """Returns the template and the resources that an import takes. Fails if a name is missing or unknown."""
    kept = retained(template)
    for missing in kept.keys() - names.keys():
        fail(f"{missing} is missing: give its name, ARN or key id")
    for unknown in names.keys() - kept.keys():
        fail(f"{unknown} is none of {', '.join(kept)}")
    resources = [
        {"ResourceType": kept[name]["Type"], "LogicalResourceId": name, "ResourceIdentifier": {IDENTIFIERS[kept[name]["Type"]]: names[name]}}
        for name in kept
    ]
    # An import changes only the owner, so a policy for a first creation has no place in it.
    shown = {name: resource | {"DeletionPolicy": "Retain"} for name, resource in kept.items()}
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": shown}, resources


def main():
    enter_venv()
    from samcli.yamlhelper import yaml_parse

    if len(sys.argv) != 3:
        fail(__doc__)
    names, folder = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    template, resources = import_of(yaml_parse((ROOT / "template.yaml").read_text()), names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template.json").write_text(json.dumps(template, indent=1))
    (folder / "resources.json").write_text(json.dumps(resources, indent=1))


if __name__ == "__main__":
    main()
