"""``kepler train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Params,
    Quiet,
    figure,
    key_values,
    plain,
    print_json,
    print_notices,
    session,
)
from kepler.adapters.cli.input_rows import input_rows

if TYPE_CHECKING:
    from kepler.sdk import TrainedModel


def train(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV file with a header, or - for stdin.")],
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", "-a", help="LogisticRegression, lightgbm, ...: see kepler algorithms."),
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", help="Column to predict, where the task has one.")
    ] = "",
    features: Annotated[
        str,
        typer.Option("--features", "-f", help="Columns to learn from, with commas; * stands for anything."),
    ] = "*",
    into: Annotated[str, typer.Option("--into", "-i", help="Name of the model: NAME or app:NAME.")] = "",
    task: Annotated[
        str, typer.Option(help="classification or regression, where the algorithm is both: lightgbm, ...")
    ] = "auto",
    by: Annotated[str, typer.Option(help="One model per combination of these columns.")] = "",
    as_name: Annotated[str, typer.Option("--as", help="Name of the prediction column.")] = "",
    param: Params = None,
    nulls: Annotated[str, typer.Option(help="Rows with missing values: drop, impute or native.")] = "drop",
    categoricals: Annotated[str, typer.Option(help="Text columns: onehot, target or native.")] = "onehot",
    test_size: Annotated[float, typer.Option(help="Share of rows held out for the metrics.")] = 0.0,
    kfold_cv: Annotated[int, typer.Option(help="Folds of a cross-validation, 0 for none.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 42]")] = None,
    partial_fit: Annotated[
        bool, typer.Option("--partial-fit", help="Go on from the newest version.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the version; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and describe, train nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end of the job.")] = True,
    quiet: Quiet = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Train a model on the rows of FILE, as a durable job of the service.

    Without --into nothing is kept but the metrics.
    """
    from kepler.sdk_train import words

    params = key_values(param)
    with input_rows(file) as source, session(address, home, app) as connected:
        model = connected.train(
            source,
            algorithm=algorithm,
            target=target,
            features=words(features),
            into=into,
            task=task,
            by=words(by),
            as_name=as_name,
            nulls=nulls,
            categoricals=categoricals,
            seed=seed,
            test_size=test_size,
            kfold_cv=kfold_cv,
            partial_fit=partial_fit,
            tags=tag or (),
            dry_run=dry_run,
            wait=wait,
            progress=False if quiet else None,
            params=params,
        )
        if as_json:
            print_json(_fields(model))
        else:
            _show(model, dry_run)
            print_notices(model.notices, quiet)


def _fields(model: TrainedModel) -> dict[str, object]:
    return {
        "job_id": model.job.id,
        "state": str(model.job.state),
        "model": model.job.model,
        "algorithm": model.algorithm,
        "rows": model.job.rows,
        "metrics": plain(model.metrics),
        "notices": plain(model.notices),
    }


def _show(model: TrainedModel, dry_run: bool) -> None:
    if dry_run:
        typer.echo(f"{model.algorithm} can be trained on these rows; nothing was trained.")
        return
    if not model.job.state.final:
        typer.echo(f"{model.job.id} {model.job.state}")
        typer.echo(f"Follow it with `kepler jobs wait {model.job.id}`.", err=True)
        return
    name = model.job.model or f"{model.algorithm} (not kept)"
    typer.echo(f"{name}  {model.algorithm}  {model.job.rows:,} rows")
    for metric, value in model.metrics.items():
        typer.echo(f"  {metric:<24} {figure(value)}")
