import 'dart:async';

import 'package:flutter/material.dart';
import 'package:flutter/services.dart';

import 'answers.dart';

/// Digits of a code that is sent: OTP_LENGTH of the service. Authenticator apps show six.
const sentLength = 6;
const appLength = 6;

/// A page that does things: whether it is at it, the refusal of the last time, and never twice at once.
mixin Acting<T extends StatefulWidget> on State<T> {
  bool busy = false;
  Refusal? refusal;

  Future<void> act(Future<void> Function() what) async {
    if (busy) return;
    setState(() {
      busy = true;
      refusal = null;
    });
    try {
      await what();
    } on Refusal catch (refused) {
      if (mounted) setState(() => refusal = refused);
    } finally {
      if (mounted) setState(() => busy = false);
    }
  }
}

/// A page in the form that all of them have: as narrow as a form reads best, and it scrolls above a keyboard.
class FormPage extends StatelessWidget {
  const FormPage({required this.title, required this.text, required this.children, super.key});

  final String title;
  final String text;
  final List<Widget> children;

  @override
  Widget build(BuildContext context) {
    final theme = Theme.of(context);
    return Scaffold(
      appBar: AppBar(),
      body: SafeArea(
        child: Center(
          child: SingleChildScrollView(
            padding: const EdgeInsets.all(24),
            child: ConstrainedBox(
              constraints: const BoxConstraints(maxWidth: 420),
              child: AutofillGroup(
                child: Column(
                  crossAxisAlignment: CrossAxisAlignment.stretch,
                  spacing: 16,
                  children: [
                    Semantics(header: true, child: Text(title, style: theme.textTheme.headlineMedium)),
                    Text(text, style: theme.textTheme.bodyLarge),
                    ...children,
                  ],
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }
}

/// A moment that is waited for, as a clock that counts down: `4:05`. At the end [onEnd] is called once.
class Countdown extends StatefulWidget {
  const Countdown({required this.until, required this.builder, this.onEnd, super.key});

  final DateTime until;
  final Widget Function(BuildContext context, String? left) builder; // null when it is over
  final VoidCallback? onEnd;

  @override
  State<Countdown> createState() => _CountdownState();
}

class _CountdownState extends State<Countdown> {
  Timer? _timer;

  @override
  void initState() {
    super.initState();
    _start();
  }

  @override
  void didUpdateWidget(Countdown old) {
    super.didUpdateWidget(old);
    if (old.until != widget.until) _start();
  }

  void _start() {
    _timer?.cancel();
    _timer = Timer.periodic(const Duration(milliseconds: 250), (timer) {
      if (_seconds > 0) {
        setState(() {});
        return;
      }
      timer.cancel();
      setState(() {});
      widget.onEnd?.call();
    });
  }

  int get _seconds => (widget.until.difference(DateTime.now()).inMilliseconds / 1000).ceil();

  @override
  void dispose() {
    _timer?.cancel();
    super.dispose();
  }

  @override
  Widget build(BuildContext context) {
    final seconds = _seconds;
    if (seconds <= 0) return widget.builder(context, null);
    return widget.builder(context, '${seconds ~/ 60}:${(seconds % 60).toString().padLeft(2, '0')}');
  }
}

/// What went wrong, read out as it appears, and how long to wait.
class Trouble extends StatelessWidget {
  const Trouble(this.refusal, {super.key});

  final Refusal? refusal;

  @override
  Widget build(BuildContext context) {
    final refused = refusal;
    if (refused == null) return const SizedBox.shrink();
    final colors = Theme.of(context).colorScheme;
    final style = TextStyle(color: colors.onErrorContainer);
    final until = refused.until;
    return DecoratedBox(
      decoration: BoxDecoration(color: colors.errorContainer, borderRadius: BorderRadius.circular(12)),
      child: Padding(
        padding: const EdgeInsets.all(12),
        child: Column(
          crossAxisAlignment: CrossAxisAlignment.start,
          children: [
            Semantics(liveRegion: true, child: Text(refused.words, style: style)),
            if (until != null)
              Countdown(
                until: until,
                builder: (context, left) => Text(left == null ? 'Try again now.' : 'Try again in $left', style: style),
              ),
          ],
        ),
      ),
    );
  }
}

/// A field with what the service says about it below.
class Field extends StatelessWidget {
  const Field({
    required this.label,
    required this.controller,
    this.error,
    this.hint,
    this.autofill,
    this.keyboard,
    this.secret = false,
    this.onSubmitted,
    super.key,
  });

  final String label;
  final TextEditingController controller;
  final String? error;
  final String? hint;
  final String? autofill;
  final TextInputType? keyboard;
  final bool secret;
  final VoidCallback? onSubmitted;

  @override
  Widget build(BuildContext context) => TextField(
        controller: controller,
        obscureText: secret,
        autocorrect: false,
        enableSuggestions: !secret,
        keyboardType: keyboard,
        autofillHints: autofill == null ? null : [autofill!],
        onSubmitted: (_) => onSubmitted?.call(),
        decoration: InputDecoration(
          labelText: label,
          helperText: hint,
          errorText: error,
          errorMaxLines: 3,
          border: const OutlineInputBorder(),
        ),
      );
}

/// The digits of a code. The phone offers those of the message that came; a paste may bring text around them.
class CodeField extends StatelessWidget {
  const CodeField({required this.controller, required this.onFull, this.length = sentLength, super.key});

  final TextEditingController controller;
  final ValueChanged<String> onFull;
  final int length;

  @override
  Widget build(BuildContext context) => TextField(
        controller: controller,
        autofocus: true,
        keyboardType: TextInputType.number,
        autofillHints: const [AutofillHints.oneTimeCode],
        inputFormatters: [FilteringTextInputFormatter.digitsOnly, LengthLimitingTextInputFormatter(length)],
        textAlign: TextAlign.center,
        style: const TextStyle(fontSize: 28, letterSpacing: 12, fontFeatures: [FontFeature.tabularFigures()]),
        decoration: const InputDecoration(labelText: 'Code', border: OutlineInputBorder()),
        onChanged: (code) {
          if (code.length == length) onFull(code);
        },
      );
}

/// The button that sends a form. It says when it is at work.
class Send extends StatelessWidget {
  const Send({required this.label, required this.busy, required this.onPressed, super.key});

  final String label;
  final bool busy;
  final VoidCallback? onPressed; // null while something is missing

  @override
  Widget build(BuildContext context) => FilledButton(
        onPressed: busy ? null : onPressed,
        style: FilledButton.styleFrom(minimumSize: const Size.fromHeight(52)),
        child: busy
            ? const SizedBox.square(dimension: 20, child: CircularProgressIndicator(strokeWidth: 2))
            : Text(label),
      );
}
