"""A table driven state machine, with a turnstile as the worked example."""


class IllegalTransition(RuntimeError):
    pass


class StateMachine:
    def __init__(self, initial):
        self.state = initial
        self.history = [initial]
        self._rules = {}
        self._on_enter = {}

    def rule(self, source, event, target, action=None):
        """Declare that event leads from source to target."""
        if (source, event) in self._rules:
            raise ValueError(f"{event!r} is already handled in state {source!r}")
        self._rules[source, event] = (target, action)
        return self

    def on_enter(self, state, hook):
        self._on_enter.setdefault(state, []).append(hook)
        return self

    def events(self):
        """Names of the events that make sense right now."""
        return sorted(event for state, event in self._rules if state == self.state)

    def send(self, event):
        try:
            target, action = self._rules[self.state, event]
        except KeyError:
            raise IllegalTransition(f"{event!r} in state {self.state!r}") from None
        if action is not None:
            action()
        self.state = target
        self.history.append(target)
        for hook in self._on_enter.get(target, ()):
            hook()
        return target


def turnstile():
    return (
        StateMachine("locked")
        .rule("locked", "coin", "open").rule("locked", "push", "locked")
        .rule("open", "push", "locked").rule("open", "coin", "open")
    )
