"""The agent: the only code of archsearch that runs on a device.

It travels as one file, `agent-<sha12>.pyz` (see `profiler.agent_bundle`), and needs Python 3.10 or newer, numpy and
onnxruntime there.
`python agent.pyz run JOBDIR` supervises one job and starts fresh worker processes, one at work at a time;
`python agent.pyz info` prints the environment as JSON; `python agent.pyz check WORK` looks closer, and at the folder.

Folders on the device; `WORK` may hold files of others, which stay (`folder` says what is ours)::

    WORK/
        agent-<sha12>.pyz           this package; several versions may stand side by side
        clocks                      while clocks are fixed: what they were
        lease                       lock held by the one job that measures; its pid and label as JSON
        python/python.sh            what `archsearch devices setup` made: starts its own Python, beside it
        weights/<recipe id>/        external data, written here from the recipe and kept for later jobs
            weights.bin             the external-data file of every graph with this recipe
            model-<sha12>.onnx      copies of those graphs: onnxruntime wants data inside the model's folder
            done                    written last; its modification time is the last use
        jobs/<job id>/
            job.json                the order, with model.onnx, recipe.json, check*.onnx and check*.json beside it
            started                 made by the one agent that works on the job
            cancel                  whoever creates this file cancels the job
            status.json             what happens now, rewritten every second
            result.json             what was measured; its appearance ends the job
            agent.log               what the workers wrote to stderr

Modules: `folder` (names that are ours), `platforms` with `darwin` and `windows` (what differs between systems),
`protocol` (names and JSON files), `main` (command line), `supervisor` (one job), `watch` (waiting), `crew`,
`processes` and on Windows `piped` (workers, seen from outside), `limits` (memory limits), `lease`, `clocks`,
`conditions` (environment and other load), `checkup` (what a job need not know), `agreement` (when to stop, whether
processes agree), and, inside workers only, `worker`, `session`, `driver`, `timing`, `memory`, `checks`, `traces`,
`profiling`, `comparison`, `weights`, `cache`.
"""
