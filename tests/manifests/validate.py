"""Validates manifests: Kubernetes' own kinds by the schemas in PyPI's kubernetes-validate, unknown keys refused; other kinds by
the schemas beside this file, which hold the fields that we use, written from the documentation that they name.

    validate.py KUBERNETES_VERSION FILE...

Prints one line for each document that is wrong, and how many were right; the exit code is 1 if one is wrong.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

OWN = {
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "EnvoyExtensionPolicy": "gateway.envoyproxy.io/v1alpha1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
}


def problem(document, version):
    """What is wrong with a document, or None."""
    kind = document.get("kind")
    if kind in OWN:
        if document.get("apiVersion") != OWN[kind]:
            return f"apiVersion: must be {OWN[kind]}"
        schema = yaml.safe_load(pathlib.Path(__file__).with_name("schemas").joinpath(f"{kind}.yaml").read_text())
        errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
        return "; ".join(f"{error.json_path}: {error.message}" for error in errors) or None
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return str(error).splitlines()[0]
    return None


def main(version, files):
    right = wrong = 0
    for file in files:
        for document in yaml.safe_load_all(pathlib.Path(file).read_text()):
            found = problem(document, version)
            if found:
                wrong += 1
                print(f"{file}: {document.get('kind')}: {found}")
            else:
                right += 1
    print(f"{right} right")
    return 1 if wrong or not right else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
