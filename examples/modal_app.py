"""The model in use in a workspace on a serverless GPU of Modal, in the wire format of Text Embeddings Inference.

    pip install modal && modal setup
    modal volume create shoptalk-workspace
    modal volume put shoptalk-workspace handbook/shoptalk.toml shoptalk.toml
    modal volume put shoptalk-workspace handbook/models models
    modal secret create shoptalk-endpoint SHOPTALK_ENDPOINT_KEY=$(openssl rand -hex 32)
    modal deploy examples/modal_app.py

Put the address that it prints into ``[model] endpoint``, and the key into SHOPTALK_ENDPOINT_KEY. After `tune` or
`models promote`: put ``models`` again (with --force), deploy again, and run `shoptalk index`.
"""

from pathlib import Path
from typing import Any

import modal

REPOSITORY = Path(__file__).parent.parent
IDLE_SECONDS = 300
"""How long a GPU waits for the next request before it is given back: what it costs against how often one waits."""

sources = modal.FilePatternMatcher.from_file(REPOSITORY / ".dockerignore")
image = (
    modal.Image.debian_slim(python_version="3.11")
    .add_local_dir(REPOSITORY, "/source", copy=True, ignore=sources)
    .run_commands("pip install --constraint /source/constraints.txt '/source[engine]'")
    .env({"HF_HOME": "/workspace/.hub"})  # where a base model of the Hub is kept; a tuned one is in models/
    .add_local_python_source("tei_app")
)
app = modal.App("shoptalk-embedder", image=image)


@app.function(
    gpu="L4",
    volumes={"/workspace": modal.Volume.from_name("shoptalk-workspace")},
    secrets=[modal.Secret.from_name("shoptalk-endpoint", required_keys=["SHOPTALK_ENDPOINT_KEY"])],
    scaledown_window=IDLE_SECONDS,
    startup_timeout=600,
    max_containers=4,
)
@modal.concurrent(max_inputs=32)
@modal.asgi_app()
def embedder() -> Any:
    """Return the application of a container that starts."""
    import os

    from tei_app import KEY_VARIABLE, application

    from retrieval.workspace import Workspace

    return application(Workspace.open("/workspace"), os.environ[KEY_VARIABLE])
