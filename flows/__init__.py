if __name__ == "__main__":
    from charrnn.cli import no_command

    no_command("flows/__init__.py")
