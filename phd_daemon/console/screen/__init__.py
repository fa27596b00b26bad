"""The console drawn with Textual: one screen for each question, keys only, and no colour is needed to understand it.

    flow (a thread)                          the app (the main thread)
    face.choose(...)   --- put(screen) --->  shows it in the place of the last question
    waits              <--- reply(value) --  after a key; the screen stays as it is until the next one comes

A key that was pressed before its question was shown answers nothing: nobody overwrites a disk by pressing Enter twice. The texts
of a flow are drawn as they are written: no markup, no control characters, cut or folded to the width.

Work that was left with ^C in `wait` goes on in its thread; its result is not used.
"""
