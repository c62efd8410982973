"""`watcher alert`: whether alerts arrive."""

import asyncio

import typer

from watcher.cli.options import DEFAULT_CONFIG, Config, Json, load, print_json
from watcher.errors import FixConfiguration, RetryElsewhere

app = typer.Typer(help="Try out the alerts.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Try out the alerts."""


@app.command("test")
def send_test(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Send one message to every service of alerts.urls, and say which took it. Exits 69 when one did not."""
    settings = load(config, reading_only=True)
    if not settings.alerts.urls:
        raise FixConfiguration(
            "alerts.urls: names no service; set WATCHER_ALERTS__URLS or the credential file alerts__urls"
        )
    from watcher.clock import SystemClock
    from watcher.health.alert_text import Message
    from watcher.health.alerts import watcher_name
    from watcher.health.delivery import Delivery

    delivery = Delivery.of(settings.alerts)
    name = watcher_name(settings.chain.chain_id, settings.task_manager.address)
    body = "This is only a test: alerts of this watcher arrive here."
    failed = asyncio.run(delivery.deliver(Message(f"watcher {name}: test", body, "info"), SystemClock()))
    if as_json:
        print_json([{"service": name, "arrived": name not in failed} for name in delivery.names])
    else:
        for name in delivery.names:
            typer.echo(f"{name}: {'did not take it' if name in failed else 'took it'}")
    if failed:
        raise RetryElsewhere(f"not delivered by {', '.join(failed)}; check the URL and the way to the service")
