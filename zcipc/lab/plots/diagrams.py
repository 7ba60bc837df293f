"""Figs. 1 to 4: the concepts, and the structure of the paper's library. Coordinates are inches."""

from collections.abc import Mapping

from zcipc.lab.plots.canvas import (
    GHOST,
    KERNEL,
    MESSAGE,
    PLAIN,
    SHARED,
    SMALL,
    USER,
    Box,
    Canvas,
    Ink,
)
from zcipc.lab.plots.labels import ENGLISH
from zcipc.lab.plots.style import DOUBLE_COLUMN, ThemedFigure

_HARDWARE = Ink("#e6e6e6", "#8c8c8c", 0.6)
_SHARED_TINT = "#e3eff8"
_PRIVATE_TINT = "#f1f1f1"
_MODE_GREY = "#6b6b6b"


def fig1_microkernel(labels: Mapping[str, str] = ENGLISH) -> ThemedFigure:
    """Fig. 1: an operating system on a microkernel. Little runs in kernel mode; the rest are processes."""
    sheet = Canvas(DOUBLE_COLUMN, 2.58)
    left, width = 0.75, 6.15
    inner, gap = 1.35, 0.25
    drivers, application, files, messages = (
        sheet.box(Box(left + index * (inner + gap), 1.73, inner, 0.45), USER, labels[name])
        for index, name in enumerate(("device_drivers", "application", "file_server", "application_ipc"))
    )
    kernel = sheet.box(Box(left, 0.55, width, 0.73), KERNEL, title=labels["microkernel"])
    third = (width - 0.4) / 3
    _, basic_ipc, _ = (
        sheet.box(Box(left + 0.1 + index * (third + 0.1), 0.65, third, 0.36), PLAIN, labels[name])
        for index, name in enumerate(("scheduler", "basic_ipc", "virtual_memory"))
    )
    hardware = sheet.box(Box(left, 0.12, width, 0.36), _HARDWARE)
    for index, name in enumerate(("processor", "memory", "devices")):
        sheet.text(hardware.at((2 * index + 1) / 6, 0.5), labels[name])
    for server in (drivers, messages):
        sheet.control(server.bottom, (server.bottom[0], kernel.top[1]), both=True)
    sheet.data(application.bottom, (application.bottom[0], basic_ipc.top[1]))
    sheet.data((files.bottom[0], basic_ipc.top[1]), files.bottom)
    _mode_boundary(sheet, 1.51, labels)
    sheet.control((left, 2.4), (left + 0.4, 2.4), both=True)
    sheet.text((left + 0.5, 2.4), labels["kernel_service"], align="left")
    sheet.data((2.35, 2.4), (2.75, 2.4))
    sheet.text((2.85, 2.4), labels["server_request"], align="left")
    return sheet.figure


def fig2_shared_memory(labels: Mapping[str, str] = ENGLISH) -> ThemedFigure:
    """Fig. 2: the same physical pages mapped into two address spaces."""
    sheet = Canvas(DOUBLE_COLUMN, 3.1)
    bottom, height, width = 0.4, 2.3, 1.35
    first = Box(0.85, bottom, width, height)
    memory = Box(2.825, bottom, width, height)
    second = Box(4.8, bottom, width, height)
    for space, name in ((first, "address_space_1"), (memory, "physical_memory"), (second, "address_space_2")):
        sheet.box(space, GHOST)
        sheet.text((space.top[0], space.top[1] + 0.14), labels[name], bold=True)

    def region(space: Box, up: float, tall: float, ink: Ink, text: str) -> Box:
        return sheet.box(Box(space.x + 0.07, space.y + up, space.width - 0.14, tall), ink, text)

    def mapped(region: Box, frame: Box, tint: str) -> None:
        if region.x < frame.x:
            sheet.area([region.at(1, 1), frame.at(0, 1), frame.at(0, 0), region.at(1, 0)], tint)
        else:
            sheet.area([region.at(0, 1), frame.at(1, 1), frame.at(1, 0), region.at(0, 0)], tint)

    region(first, 1.93, 0.3, USER, labels["stack"])
    shared_1 = region(first, 1.2, 0.5, SHARED, labels["shared_mapping"])
    heap_1 = region(first, 0.5, 0.4, USER, labels["heap"])
    region(first, 0.07, 0.3, USER, labels["code"])
    region(second, 1.93, 0.3, USER, labels["stack"])
    heap_2 = region(second, 1.3, 0.4, USER, labels["heap"])
    shared_2 = region(second, 0.6, 0.5, SHARED, labels["shared_mapping"])
    region(second, 0.07, 0.3, USER, labels["code"])

    frame_2 = region(memory, 1.75, 0.4, _HARDWARE, labels["own_pages_2"])
    shared = region(memory, 0.9, 0.5, SHARED, labels["shared_pages"])
    frame_1 = region(memory, 0.2, 0.4, _HARDWARE, labels["own_pages_1"])
    mapped(heap_1, frame_1, _PRIVATE_TINT)
    mapped(heap_2, frame_2, _PRIVATE_TINT)
    mapped(shared_1, shared, _SHARED_TINT)
    mapped(shared_2, shared, _SHARED_TINT)

    sheet.data((0.1, shared_1.left[1]), shared_1.left)
    sheet.text((0.4, shared_1.left[1] + 0.07), labels["writes"], rise="bottom")
    sheet.data(shared_2.right, (6.9, shared_2.right[1]))
    sheet.text((6.6, shared_2.right[1] + 0.07), labels["reads"], rise="bottom")
    sheet.text((DOUBLE_COLUMN / 2, 0.17), labels["same_pages"], italic=True)
    return sheet.figure


def fig3_message_copy(labels: Mapping[str, str] = ENGLISH) -> ThemedFigure:
    """Fig. 3: a message passed through the kernel: two system calls and two copies."""
    sheet = Canvas(DOUBLE_COLUMN, 2.95)
    sheet.box(Box(0.75, 1.95, 2.4, 0.85), USER, title=labels["process_1"])
    sheet.box(Box(4.5, 1.95, 2.4, 0.85), USER, title=labels["process_2"])
    kernel = sheet.box(Box(0.75, 0.65, 6.15, 0.82), KERNEL, title=labels["kernel"])
    source = sheet.box(Box(1.85, 2.07, 1.2, 0.34), MESSAGE, labels["sender_buffer"])
    target = sheet.box(Box(4.6, 2.07, 1.2, 0.34), MESSAGE, labels["receiver_buffer"])
    middle = sheet.box(Box(3.225, 0.78, 1.2, 0.34), MESSAGE, labels["kernel_buffer"])
    send = sheet.box(Box(0.85, 2.07, 0.75, 0.34), PLAIN, labels["send_call"])
    receive = sheet.box(Box(6.05, 2.07, 0.75, 0.34), PLAIN, labels["receive_call"])

    sheet.control(send.bottom, (send.bottom[0], kernel.at(0, 1)[1]))
    sheet.control(receive.bottom, (receive.bottom[0], kernel.at(0, 1)[1]))
    down, up = source.bottom[0], target.bottom[0]
    sheet.data(source.bottom, (down, middle.left[1]), middle.left)
    sheet.data(middle.right, (up, middle.right[1]), target.bottom)
    _mode_boundary(sheet, 1.71, labels)
    for number, x in ((1, send.bottom[0]), (2, down), (3, receive.bottom[0]), (4, up)):
        sheet.number((x, 1.71), number)
    for number, place in ((1, (0.85, 0.42)), (2, (0.85, 0.16)), (3, (4.0, 0.42)), (4, (4.0, 0.16))):
        sheet.number(place, number)
        sheet.text((place[0] + 0.16, place[1]), labels[f"step_{number}"], align="left")
    return sheet.figure


def fig4_implementation(labels: Mapping[str, str] = ENGLISH) -> ThemedFigure:
    """Fig. 4: the paper's library, with initial values of the semaphores under which it does not deadlock."""
    sheet = Canvas(DOUBLE_COLUMN, 3.0)
    first = sheet.box(Box(0.1, 0.12, 1.75, 2.76), USER)
    second = sheet.box(Box(5.15, 0.12, 1.75, 2.76), USER)
    ipc = sheet.box(Box(2.45, 2.28, 2.1, 0.6), PLAIN)
    sheet.text(ipc.at(0.5, 0.82), labels["ipc_object"], bold=True)
    sheet.text(ipc.at(0.06, 0.5), labels["first_pid"], align="left")
    sheet.text(ipc.at(0.94, 0.5), labels["second_pid"], align="right")
    sheet.text(ipc.at(0.5, 0.18), labels["refused"], size=SMALL, italic=True)
    memory = sheet.box(Box(2.45, 0.12, 2.1, 1.96), SHARED, title=labels["shared_memory"])
    sheet.control(ipc.bottom, memory.top)

    level = 1.6
    queue = Box(2.6, level - 0.15, 1.8, 0.3)
    sheet.cells(queue, [PLAIN, PLAIN, MESSAGE, MESSAGE, MESSAGE, MESSAGE])
    sheet.text((queue.bottom[0], queue.y - 0.13), labels["queue"])
    for index, name in enumerate(("empty", "mutex", "full")):
        semaphore = sheet.box(Box(2.6 + index * 0.62, 0.53, 0.56, 0.42), PLAIN)
        sheet.text(semaphore.at(0.5, 0.7), labels[name], size=SMALL)
        sheet.text(semaphore.at(0.5, 0.28), labels[f"{name}_initially"], bold=True)
    sheet.text((memory.bottom[0], 0.35), labels["initial_values"], size=SMALL)

    for process, call in ((first, "send"), (second, "receive")):
        inner = Box(process.x + 0.12, level - 0.17, process.width - 0.24, 0.34)
        sheet.box(inner, MESSAGE, labels["message_buffer"])
        sheet.text((inner.x, 1.24), labels[call], bold=True, align="left")
        for step in range(1, 6):
            y = 1.24 - 0.185 * step
            sheet.text((inner.x + 0.06, y), f"{step}", align="left", size=SMALL, color=_MODE_GREY)
            sheet.text((inner.x + 0.2, y), labels[f"{call}_{step}"], align="left", size=SMALL)

    bound = ipc.at(0, 0.5)[1]
    mine = sheet.box(Box(first.at(1, 0)[0] - 0.62, bound - 0.14, 0.5, 0.28), PLAIN, labels["pid"])
    yours = sheet.box(Box(second.x + 0.12, bound - 0.14, 0.5, 0.28), PLAIN, labels["pid"])
    sheet.text((first.x + 0.12, bound), labels["process_1"], bold=True, align="left")
    sheet.text((second.at(1, 0)[0] - 0.12, bound), labels["process_2"], bold=True, align="right")
    sheet.control(ipc.left, mine.right)
    sheet.control(ipc.right, yours.left)
    sheet.data((first.at(1, 0)[0] - 0.12, level), queue.left)
    sheet.data(queue.right, (second.x + 0.12, level))
    sheet.text((2.15, level + 0.13), labels["write"])
    sheet.text((4.85, level + 0.13), labels["read"])
    return sheet.figure


def _mode_boundary(sheet: Canvas, y: float, labels: Mapping[str, str]) -> None:
    """The line between user mode and kernel mode, named at the left on both of its sides."""
    sheet.line([(0.1, y), (DOUBLE_COLUMN - 0.1, y)], _MODE_GREY, 0.7, dashed=True)
    for name, side, rise in (("user_mode", 0.06, "bottom"), ("kernel_mode", -0.06, "top")):
        sheet.text((0.1, y + side), labels[name], size=SMALL, color=_MODE_GREY, align="left", rise=rise)
