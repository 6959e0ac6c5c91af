"""What Pallaidium's remote backend (an add-on of Blender's sequencer) needs besides /v1/files and /v1/jobs.

Its contract v0.1: `GET /v1/health` and `/v1/models`, `POST /v1/files` as a form, `POST /v1/videos`, then
`GET /v1/jobs/{id}` until it succeeds, and `GET /v1/files/{file_id}`. The selected strip's file comes as
`control_file_id`; the answer is an mp4 with sound. It cancels by no longer asking.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.errors import OptionError
from runtime.rng import MAX_SEED
from runtime.serve.api.bodies import read_json
from runtime.serve.api.files import own_file, services_of
from runtime.serve.api.jobs import accept, check_room
from runtime.serve.api.security import who_asks
from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.store import Values
from runtime.serve.work.job_request import Deliver, JobSpec, option_actions, read_job_options

CONTRACT_VERSIONS = ["v0.1"]
MODEL = "maskvat"
WORDS = {"prompt": "prompt", "negative_prompt": "avoid"}  # its name -> our option, if this version has it


def model_entry(services: Services) -> Values:
    """The one model, as Pallaidium and OpenAI-like tools list it."""
    facts = services.pool.facts
    words, any_text = services.words.listed()
    return {
        "id": MODEL,
        "object": "model",
        "type": "video",
        "modes": ["control"],
        "supports_audio_output": True,
        "bundle": (facts.get("bundle") or {}).get("name"),
        "backend": facts.get("backend"),
        "precision": facts.get("precision"),
        "words": words,
        "any_text": any_text,
    }


async def create_video(request: Request) -> Response:
    services, values = services_of(request), await read_json(request)
    check_room(services, who_asks(request))
    if values.get("control_file_id") is None:
        raise Problem("option_error", "control_file_id is missing; select a movie strip as the input of the model")
    file = own_file(request, str(values["control_file_id"]))
    options: Values = {}
    seed = values.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED:
        options["seed"] = seed
    for theirs, ours in WORDS.items():
        if values.get(theirs) and ours in option_actions():
            options[ours] = values[theirs]
    try:
        options = read_job_options(options, False, services.words)
    except OptionError as error:
        raise Problem("option_error", str(error)) from error
    deliver = vars(Deliver(video=True)).copy()
    spec = JobSpec(file.path, file.label, {"file_id": file.id}, options, deliver, must_ask=True)
    job = accept(request, spec, 0)
    return JSONResponse({"id": job.id, "status": "queued"})
