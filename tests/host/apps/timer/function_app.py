"""Timers: one by schedule, one that also runs at the start."""

import azure.functions as func

app = func.FunctionApp()
seen: list[tuple[str, bool]] = []


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
async def sweep(timer: func.TimerRequest) -> None:
    """Note the run."""
    seen.append(("sweep", timer.past_due))


@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=True, use_monitor=False)
async def at_start(timer: func.TimerRequest) -> None:
    """Note the run, and fail."""
    seen.append(("at_start", timer.past_due))
    raise RuntimeError("once is enough")
