"""The console drawn with Textual: one screen a question, keys only, nothing that needs a colour to be understood.

    flow (a thread)                          the app (the main thread)
    face.choose(...)   --- Put(screen) --->  replaces the last question on the screen
    waits              <--- reply(value) --  a key answered it; the screen stays as it is until the next one comes

A key that was pressed before its question stood on the screen answers nothing: nobody overwrites a disk by pressing
Enter twice. What a flow says is drawn as it is written: no markup, no control characters, cut or folded to the width.

Not guaranteed: that work left with ^C in `wait` has ended. It is let go, and what it finds is not looked at.
"""
