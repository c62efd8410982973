"""`watcher alert`: a test of the alert services."""

import asyncio

import typer

from watcher.cli.avs import of_all
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, load, print_json
from watcher.errors import FixConfiguration, RetryElsewhere

app = typer.Typer(help="Try the alerts.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Try the alerts."""


@app.command("test")
@of_all
def send_test(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Send one message to every service of alerts.urls, and print which took it. Exits 69 if one did not."""
    settings = load(config, reading_only=True)
    if not settings.alerts.urls:
        raise FixConfiguration(
            "alerts.urls: no service is set; set WATCHER_ALERTS__URLS or the credential file alerts__urls"
        )
    from watcher.clock import SystemClock
    from watcher.health.alert_text import Message
    from watcher.health.alerts import watcher_name
    from watcher.health.delivery import Delivery

    delivery = Delivery.of(settings.alerts)
    name = watcher_name(settings.chain.chain_id, settings.task_manager.address)
    message = Message(f"watcher {name}: test", "This is only a test: alerts of this watcher arrive here.", "info")
    failed = asyncio.run(delivery.deliver(message, SystemClock()))
    if as_json:
        print_json([{"service": service, "arrived": service not in failed} for service in delivery.names])
    else:
        for service in delivery.names:
            typer.echo(f"{service}: {'did not take it' if service in failed else 'took it'}")
    if failed:
        raise RetryElsewhere(f"not delivered by {', '.join(failed)}; check the URL and the network to the service")
